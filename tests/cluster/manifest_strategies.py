"""Generates manifests: valid ones, unusual ones, and invalid ones.

Every server in these manifests is on loopback or has a name that cannot exist, so that probes reach no other server.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Spec = dict[str, Any]

MISSING = "is-not-there"
"""A Secret or ConfigMap that does not exist."""
WORDS = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
WILD = st.text(max_size=40) | st.sampled_from(
    ["", " ", "\x00", "\n", "\u202e", "\ufeff", "\U0010ffff", "é" * 300, "x" * 70000, "{{.}}", "$(id)", "null", "%s%n"]
)
PATTERNS = st.sampled_from(
    [
        *("(", "[a", "*", "a{9,1}", "(?P<a>x)(?P<a>y)", "(?<=a+)b", "a{99999999999}", "[[a]", "(a+)+x", ".*.*.*.*!"),
        *("(?i)[\x01-\U0010ffff]", "(?:){4294967290}", "(" * 120 + ")" * 120, "\\", "^\\Z", "^غرفة-", "(?x) # a"),
    ]
) | st.text("ab.*+?()[]{}|^$\\d-0", max_size=30)
ODD_HOSTS = ["127.0.0.1:1", "[::1]:1", "no-such-host.invalid", "a..b", "-", "x" * 64 + ".invalid", "0:1", "[::::]:1"]
ODD_HOSTS += ["127.0.0.1:1/%zz", "127.0.0.1:1//..//?", "user:pass@127.0.0.1:1", "127.0.0.1:99999", "127.0.0.1:0"]
QUANTITIES = st.sampled_from(
    ["0", "1", "250m", "1.5Gi", "0.000000001", "999999999999999Ti", "-1", "1e3", "1E", "½", "0x10", "+1", " 1", "1n"]
) | st.integers(-(2**63), 2**63 - 1)
INTEGERS = st.sampled_from([-(2**63), -1, 0, 1, 2, 100, 1000, 1001, 2**31, 2**53, 2**63 - 1])
ANYTHING = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | WILD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WILD, inner, max_size=3),
    max_leaves=5,
)


@dataclass(frozen=True)
class Servers:
    """Servers that work, for manifests."""

    livekit_url: str
    openai_url: str


def specs(servers: Servers) -> st.SearchStrategy[Spec]:
    """Generate specs of AvatarAgents: about half have no fault, the others have one to three."""
    faults = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
    return faults.flatmap(lambda count: _with_faults(_sound(servers), count))


def certain(servers: Servers) -> list[Spec]:
    """Return specs that lead to every reason that a manifest alone can cause. Generated specs may miss some: the
    strings and numbers that hypothesis tries depend on the loaded modules.
    """
    livekit, openai = {"name": "livekit"}, {"name": "openai"}
    unreachable = "ws://127.0.0.1:1"

    def spec(url: str = servers.livekit_url, keys: Spec = livekit, base: str = servers.openai_url, **more: Any) -> Spec:
        voice = {"openai": {"baseURL": base, "credentialsSecretRef": openai}}
        return {"livekit": {"url": url, "credentialsSecretRef": keys}, "voice": voice, **more}

    def texts(*names: str) -> Spec:
        return {"knowledge": [{"configMapRef": {"name": name}} for name in names]}

    too_long = ".".join(["a" * 60] * 5) + "/x"
    return [
        *(spec(), spec(suspend=True), spec(agentName="twice"), spec(agentName="twice")),
        *(spec(dispatch={"roomNamePattern": "("}), spec(worker={"pod": {"nodeSelector": {too_long: "a"}}})),
        *(spec(keys={"name": MISSING}), spec(keys=openai), spec(url=unreachable), spec(base="http://127.0.0.1:1/v1")),
        *(spec(**texts(MISSING)), spec(**texts("empty")), spec(**texts("large"))),
        spec(persona={"greetingRef": {"name": "texts", "key": MISSING}}),
        spec(worker={"envFrom": [{"configMapRef": {"name": MISSING}}]}, settings={"a": [None, {"b": 1.5}]}),
    ]


def _sound(servers: Servers) -> st.SearchStrategy[Spec]:
    """Generate specs that the schema accepts; some of them cannot work."""
    secret = st.sampled_from(["livekit", "openai", "livekit", "openai", MISSING, "a.b-c"]).map(
        lambda name: {"name": name}
    )
    odd = st.sampled_from(["127.0.0.1:1", "[::1]:1", "no-such-host.invalid", "a..b", "x" * 64 + ".invalid"])
    mostly = st.integers(0, 4)
    url = mostly.flatmap(lambda n: odd.map(lambda host: f"ws://{host}") if n == 0 else st.just(servers.livekit_url))
    base = mostly.flatmap(
        lambda n: odd.map(lambda host: f"http://{host}/v1") if n == 0 else st.just(servers.openai_url)
    )
    return st.fixed_dictionaries(
        {
            "livekit": st.fixed_dictionaries(
                {"url": url, "credentialsSecretRef": st.just({"name": "livekit"}) | secret}
            ),
            "voice": st.fixed_dictionaries(
                {
                    "openai": st.fixed_dictionaries(
                        {"baseURL": base, "credentialsSecretRef": st.just({"name": "openai"}) | secret}
                    )
                },
                optional={"stt": _model(), "llm": _model(), "tts": _model()},
            ),
        },
        optional={
            "agentName": WORDS | st.sampled_from(["taken", "..", "-", "_" * 128, ""]),
            "dispatch": _dispatch(),
            "language": st.sampled_from(["ar", "en", "pt-BR", "nb-99-abcdefgh", "he", "zz"]),
            "persona": _persona(),
            "conversation": _conversation(),
            "knowledge": st.lists(_knowledge(), max_size=3),
            "avatar": _avatar(base, secret),
            "worker": _worker(),
            "scaling": _scaling(),
            "suspend": st.booleans(),
        },
    )


def _model() -> st.SearchStrategy[Spec]:
    letter = st.characters(categories=["L", "N", "P", "S"])
    seen = st.tuples(st.text(max_size=10), letter, st.text(max_size=9))
    return seen.map(lambda parts: {"model": "".join(parts)})


def _dispatch() -> st.SearchStrategy[Spec]:
    origins = st.lists(st.sampled_from(["https://a.example", "http://localhost:3000", "https://[::1]"]), max_size=2)
    keys = st.lists(st.sampled_from(["ios-2f7c9a1e", "x" * 64]), max_size=2)
    public = st.fixed_dictionaries(
        {"access": st.just("Public"), "allowedOrigins": origins}, optional={"publishableKeys": keys}
    )
    known = {
        "mode": st.sampled_from(["Explicit", "Automatic"]),
        "joinTimeoutSeconds": st.integers(2, 60),
        "allowedOrigins": origins,
    }
    private = st.fixed_dictionaries({}, optional={**known, "roomNamePattern": PATTERNS.filter(lambda p: len(p) < 256)})
    return private | public


def _persona() -> st.SearchStrategy[Spec]:
    ref = st.fixed_dictionaries(
        {"name": st.sampled_from(["texts", "empty", MISSING]), "key": st.sampled_from(["a", "b.md"])}
    )
    text = st.text(max_size=200) | st.sampled_from(["\x00" * 1000, "\x1f" * 1024, "\U0001f600" * 1024, "</knowledge>"])
    instructions = st.fixed_dictionaries({}, optional={"instructions": text}) | ref.map(
        lambda r: {"instructionsRef": r}
    )
    greeting = st.fixed_dictionaries({}, optional={"greeting": text}) | ref.map(lambda r: {"greetingRef": r})
    return st.tuples(instructions, greeting).map(lambda both: both[0] | both[1])


def _conversation() -> st.SearchStrategy[Spec]:
    seconds = {"idlePromptSeconds": st.integers(0, 3600), "idleHangUpSeconds": st.integers(1, 3600)}
    return st.fixed_dictionaries({}, optional={**seconds, "announceEnd": st.booleans()})


def _knowledge() -> st.SearchStrategy[Spec]:
    named = st.sampled_from(["texts", "empty", "large", "binary", MISSING]).map(
        lambda name: {"configMapRef": {"name": name}}
    )
    text = st.text(min_size=1, max_size=100) | st.sampled_from(["\x00" * 8192, "\U0001f600" * 8192, " "])
    return named | st.fixed_dictionaries({"name": WORDS, "text": text})


def _avatar(base: st.SearchStrategy[str], secret: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    tavus = st.fixed_dictionaries(
        {"baseURL": base, "faceID": WORDS, "palID": WORDS, "credentialsSecretRef": secret | st.just({"name": "openai"})}
    )
    free = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS, st.lists, max_leaves=5)
    plugin = st.fixed_dictionaries(
        {"name": st.sampled_from(["bey", "simli", "a_2", "x" * 64])},
        optional={"options": st.dictionaries(WORDS, free, max_size=5), "credentialsSecretRef": secret},
    )
    optional = {"onFailure": st.sampled_from(["VoiceOnly", "EndCall"]), "maxSessions": st.integers(1, 1000)}
    return (
        st.just({"provider": "None"})
        | st.fixed_dictionaries({"provider": st.just("Tavus"), "tavus": tavus}, optional=optional)
        | st.fixed_dictionaries({"provider": st.just("Plugin"), "plugin": plugin}, optional=optional)
    )


def _variable() -> st.SearchStrategy[Spec]:
    name = st.fixed_dictionaries({"name": st.sampled_from(["MENU", "_a1", "PATH", "LIVEKIT_URL"])})
    secret = st.sampled_from([{"name": "openai", "key": "apiKey"}, {"name": "openai", "key": "none"}])
    text = st.sampled_from([{"name": "texts", "key": MISSING}, {"name": MISSING, "key": "a"}])
    value = st.fixed_dictionaries({"value": st.text(max_size=30) | st.sampled_from(["$(PATH)", "$$", ""])})
    references = st.fixed_dictionaries({"secretKeyRef": secret}) | st.fixed_dictionaries({"configMapKeyRef": text})
    return st.tuples(name, value | references.map(lambda found: {"valueFrom": found})).map(
        lambda parts: parts[0] | parts[1]
    )


def _variables() -> st.SearchStrategy[Spec]:
    name = st.sampled_from(["openai", "texts", MISSING]).map(lambda name: {"name": name})
    kind = st.sampled_from(["secretRef", "configMapRef"])
    return st.tuples(kind, name, st.sampled_from(["", "SHOP_"])).map(
        lambda parts: {parts[0]: parts[1], "prefix": parts[2]}
    )


def _worker() -> st.SearchStrategy[Spec]:
    # What Kubernetes itself refuses or cannot run: the schema need not know.
    limits = st.sampled_from(
        [
            *({}, {"cpu": 1, "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi", "example.com/gpu": "1.5"}, {"cpu": "0"}),
            *({"cpu": "999999999999999Ti"}, {"cpu": 2, "kubernetes.io/x": 1}, {"cpu": "0.0000001"}),
        ]
    )
    keys = st.sampled_from(["disktype", "example.com/zone", "x" * 63, "A.B_c", ".".join(["a" * 60] * 5) + "/x"])
    tolerations = st.fixed_dictionaries(
        {"operator": st.just("Exists")},
        optional={"key": keys, "effect": st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])},
    )
    pod = {
        "nodeSelector": st.dictionaries(keys, st.sampled_from(["", "a", "x" * 63]), max_size=2),
        "tolerations": st.lists(tolerations, max_size=2),
        "priorityClassName": st.sampled_from(["", "no-such-class"]),
        "imagePullSecrets": st.lists(WORDS.map(lambda name: {"name": name}), max_size=2),
        "annotations": st.dictionaries(keys, st.text(max_size=30), max_size=2),
    }
    return st.fixed_dictionaries(
        {},
        optional={
            "image": st.sampled_from(["", "worker.example/image:1", "worker"]),
            "agent": st.sampled_from(["", "shop:Agent", "shop.agents:Makers.make"]),
            "env": st.lists(_variable(), max_size=3, unique_by=lambda variable: variable["name"]),
            "envFrom": st.lists(_variables(), max_size=2),
            "callsPerWorker": st.integers(1, 100),
            "maxCallMinutes": st.integers(1, 720),
            "resources": limits.map(lambda found: {"requests": {}, "limits": found}),
            "pod": st.fixed_dictionaries({}, optional=pod),
        },
    )


def _scaling() -> st.SearchStrategy[Spec]:
    fixed = st.sampled_from([0, 1, 1000]).map(lambda workers: {"mode": "Fixed", "workers": workers})
    calls = st.fixed_dictionaries(
        {"minWorkers": st.integers(0, 2), "maxWorkers": st.integers(2, 1000)},
        optional={
            "freeSlots": st.integers(0, 1000),
            "scaleDownDelaySeconds": st.integers(0, 86400),
            "placement": st.sampled_from(["Packed", "Spread"]),
        },
    )
    return fixed | calls


WRONG: Mapping[str, st.SearchStrategy[Any]] = {
    "agentName": WILD,
    "language": WILD,
    "suspend": ANYTHING,
    "dispatch.mode": WILD,
    "dispatch.roomNamePattern": PATTERNS | WILD,
    "dispatch.joinTimeoutSeconds": INTEGERS,
    "dispatch.allowedOrigins": st.lists(
        st.sampled_from(ODD_HOSTS).map(lambda host: f"https://{host}") | WILD, max_size=40
    ),
    "dispatch.publishableKeys": st.lists(WILD | st.just("x" * 65), max_size=10),
    "livekit.url": st.sampled_from(ODD_HOSTS).map(lambda host: f"wss://{host}") | WILD,
    "livekit.publicURL": st.sampled_from(ODD_HOSTS).map(lambda host: f"wss://{host}") | WILD,
    "livekit.credentialsSecretRef": ANYTHING,
    "livekit.credentialsSecretRef.name": WILD,
    "voice.openai.baseURL": st.sampled_from(ODD_HOSTS).map(lambda host: f"http://{host}") | WILD,
    "voice.tts.voice": WILD,
    "persona": ANYTHING,
    "persona.instructions": WILD | st.just("\u0628" * 16385),
    "persona.greetingRef.key": WILD,
    "knowledge": ANYTHING | st.lists(ANYTHING, max_size=20),
    "avatar.provider": WILD,
    "avatar.maxSessions": INTEGERS,
    "worker.image": WILD | st.sampled_from(["Upper/Case:1", "a:b:c", "a@sha256:0", "https://a/b"]),
    "worker.agent": WILD | st.sampled_from(["a", ":", "a:", "a:b:c", "a-b:c"]),
    "worker.env": ANYTHING,
    "worker.envFrom": ANYTHING,
    "settings": ANYTHING,
    "worker.callsPerWorker": INTEGERS,
    "worker.maxCallMinutes": INTEGERS,
    "conversation": ANYTHING,
    "conversation.idlePromptSeconds": INTEGERS,
    "worker.resources.limits": st.dictionaries(WILD | st.sampled_from(["cpu", "memory"]), QUANTITIES, max_size=10),
    "worker.resources.requests.memory": QUANTITIES,
    "worker.pod": st.dictionaries(
        st.sampled_from(["hostNetwork", "serviceAccountName", "volumes"]), ANYTHING, min_size=1
    ),
    "worker.pod.nodeSelector": st.dictionaries(
        WILD | st.sampled_from(["x" * 64, "a..b/x", "UP/x", "a/b/c"]), WILD, max_size=20
    ),
    "worker.pod.annotations": st.dictionaries(WILD | st.just("avataragents.io/credentials"), WILD, max_size=20),
    "worker.pod.tolerations": st.lists(ANYTHING, max_size=3),
    "scaling.mode": st.just("Fixed") | WILD,
    "scaling.workers": INTEGERS,
    "scaling.minWorkers": INTEGERS,
    "scaling.maxWorkers": INTEGERS,
    "scaling.scaleDownDelaySeconds": INTEGERS,
    "extra": ANYTHING,
}
"""Wrong values by field. A missing base URL is not among them, because its default is on the internet."""


def _with_faults(sound: st.SearchStrategy[Spec], count: int) -> st.SearchStrategy[Spec]:
    fault = st.sampled_from(sorted(WRONG)).flatmap(lambda path: WRONG[path].map(lambda value: (path, value)))
    return st.tuples(sound, st.lists(fault, min_size=count, max_size=count)).map(_marred)


def _marred(spec_and_faults: tuple[Spec, list[tuple[str, Any]]]) -> Spec:
    spec, faults = spec_and_faults
    spec = deepcopy(spec)
    for path, value in faults:
        *parents, last = path.split(".")
        node = spec
        for parent in parents:
            below = node.get(parent)
            node[parent] = node = below if isinstance(below, dict) else {}
        node[last] = value
    return spec
