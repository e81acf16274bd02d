"""The API server's validation of manifests; no controller runs here."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import API_GROUP, API_VERSION, AvatarAgentSpec
from agentspec.crd import RULES, crd
from devkit.cluster import Cluster
from tests.cluster import manifests
from tests.cluster.instance import REPOSITORY, kubectl

EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.yaml"))
URL = "wss://livekit.example"


@dataclass(frozen=True)
class Place:
    """A namespace of the API server, and requests to it."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *arguments: str, document: object = None) -> str:
        stdin = None if document is None else json.dumps(document)
        return kubectl(self.cluster, "--namespace", self.namespace, *arguments, stdin=stdin)

    def apply(self, name: str, spec: dict[str, Any], *options: str) -> dict[str, Any]:
        """Apply an AvatarAgent and return the stored object."""
        manifest = {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": "AvatarAgent", "metadata": {"name": name}}
        said = self.kubectl("apply", "-f", "-", "-o", "json", *options, document=manifest | {"spec": spec})
        stored: dict[str, Any] = json.loads(said)
        return stored

    def refusal(self, name: str, spec: dict[str, Any]) -> str:
        """Apply an invalid manifest and return the error message."""
        with pytest.raises(subprocess.CalledProcessError) as raised:
            self.apply(name, spec, "--dry-run=server")
        return str(raised.value.stderr)


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    opened = Place(cluster, f"schema-{secrets.token_hex(3)}")
    kubectl(cluster, "create", "namespace", opened.namespace)
    yield opened
    opened.kubectl("delete", "avataragents", "--all", "--wait=false")
    kubectl(cluster, "delete", "namespace", opened.namespace, "--wait=false")


def minimal(**changes: Any) -> dict[str, Any]:
    """Return the minimal spec with changes: dictionaries are merged, other values replaced."""
    spec = {
        "livekit": {"url": URL, "credentialsSecretRef": {"name": "livekit"}},
        "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
    }
    return merged(spec, changes)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = deepcopy(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


TAVUS = {"faceID": "face", "palID": "pal", "credentialsSecretRef": {"name": "tavus"}}
TEXT_REF = {"name": "texts", "key": "text.md"}
ALONE: dict[str, Any] = {"baseURL": "http://vllm.test/v1?tenant=a"}
"""A stage with an address of its own."""


def toleration(**fields: Any) -> dict[str, Any]:
    return {"worker": {"pod": {"tolerations": [fields]}}}


def pod(**fields: Any) -> dict[str, Any]:
    return {"worker": {"pod": fields}}


def resources(**fields: Any) -> dict[str, Any]:
    return {"worker": {"resources": fields}}


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"name": "order_status", **fields}]}


REPORT = {
    "url": "https://crm.example/calls",
    "secretKeyRef": {"name": "crm", "key": "signingKey"},
    "include": ["Usage"],
}


def report(**fields: Any) -> dict[str, Any]:
    return {"report": REPORT | fields}


def price(**fields: Any) -> dict[str, Any]:
    return report(prices={"currency": "USD", "models": [{"model": "tts-1", **fields}]})


def tracing(**fields: Any) -> dict[str, Any]:
    return {"tracing": {"otlpEndpoint": "http://collector:4318", **fields}}


HTTP_TOOL = {"description": "d", "url": "https://shop.example/orders"}
SECRET_KEY = {"name": "own", "key": "menu"}
SECRET_HEADER = {"name": "Authorization", "secretKeyRef": {"name": "shop", "key": "token"}}


def variable(**fields: Any) -> dict[str, Any]:
    return {"worker": {"env": [{"name": "MENU", **fields}]}}


def source(**fields: Any) -> dict[str, Any]:
    return {"worker": {"envFrom": [fields]}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"agentName": "front desk"}, "set an agent name of letters, digits"),
    ({"language": "English"}, "set a language of two letters (ISO 639-1)"),
    ({"language": "arz"}, "set a language of two letters (ISO 639-1)"),
    ({"languages": ["english"]}, "set a language of two letters (ISO 639-1)"),
    ({"languages": ["en", "en"]}, "Duplicate value"),
    ({"languages": ["fr", "en"], "persona": {"greeting": "Hi", "greetings": {"fr": "Salut"}}}, "needs one in each"),
    ({"timeZone": "Europe / Berlin"}, "set a time zone of the IANA database, such as Europe/Berlin or UTC"),
    ({"livekit": {"url": "https://livekit.example"}}, "set a WebSocket URL such as wss://project.livekit.cloud"),
    ({"livekit": {"url": "wss://user:password@livekit.example"}}, "without user, query or fragment"),
    ({"livekit": {"url": "wss://livekit.example:70000"}}, "set a WebSocket URL such as"),
    ({"livekit": {"url": "wss://livekit.example/\u00e9"}}, "set a WebSocket URL such as"),
    ({"livekit": {"credentialsSecretRef": {"name": "Live_Kit"}}}, "set an object's name: lower-case letters"),
    ({"voice": {"openai": {"baseURL": "api.openai.com"}}}, "set a base URL such as https://api.openai.com/v1"),
    ({"voice": {"openai": {"baseURL": "https://user@api.test/v1"}}}, "with a query if the server needs one"),
    ({"voice": {"stt": {"provider": "Deepgram"}}}, 'supported values: "OpenAI", "Plugin", "Inference"'),
    ({"voice": {"stt": {"provider": "Plugin"}}}, "provider Plugin needs plugin, and no other provider has one"),
    ({"voice": {"stt": {"plugin": "deepgram"}}}, "provider Plugin needs plugin, and no other provider has one"),
    (
        {"voice": {"tts": {"provider": "Plugin", "plugin": "livekit-plugins-x"}}},
        "set the module's name in livekit.plugins",
    ),
    ({"voice": {"llm": {"provider": "Inference"}}}, "provider Inference needs a model: set model to a name of"),
    (
        {"voice": {"llm": {"provider": "Inference", "model": "a/b", "credentialsSecretRef": {"name": "x"}}}},
        "provider Inference uses the keys of spec.livekit: remove credentialsSecretRef",
    ),
    ({"voice": {"llm": {"fallbacks": [{"model": "b"}] * 4}}}, "must have at most 3 items"),
    ({"voice": {"tts": {"fallbacks": [{"provider": "Plugin"}]}}}, "provider Plugin needs plugin"),
    (
        {"voice": {"openai": None, "tts": {"provider": "Inference", "model": "a/b"}}},
        "set voice.openai, or set baseURL or",
    ),
    (
        {"voice": {"openai": None, **dict.fromkeys(("stt", "llm", "tts"), ALONE | {"fallbacks": [{"model": "b"}]})}},
        "set voice.openai, or set baseURL or credentialsSecretRef in each stage and fallback with provider OpenAI",
    ),
    (
        {"avatar": {"provider": "Tavus", "tavus": TAVUS | {"baseURL": "tavusapi.com"}}},
        "set a base URL such as https://tavusapi.com/v2",
    ),
    ({"voice": {"llm": {"model": " "}}}, "set the provider's name of the model"),
    ({"voice": {"tts": {"voice": ""}}}, "set the provider's name of the voice"),
    ({"voice": {"openai": None, "realtime": {}}}, "voice.realtime needs an API key: set voice.openai"),
    ({"voice": {"realtime": {}, "llm": {"model": "gpt-4o"}}}, "remove the settings of both, or remove voice.realtime"),
    ({"voice": {"realtime": {}, "stt": {"baseURL": "http://a.test"}}}, "voice.realtime replaces voice.stt and voice.l"),
    ({"dispatch": {"publishableKeys": ["ios-2f7c9a1e"]}}, "set access: Public or remove publishableKeys"),
    ({"dispatch": {"access": "Public", "publishableKeys": ["short"]}}, "set 8 to 64 letters, digits"),
    (
        {"dispatch": {"access": "Public", "allowedOrigins": ["https://*.example"]}},
        "set an exact origin such as https://www.example.com",
    ),
    ({"persona": {"instructions": "x", "instructionsRef": TEXT_REF}}, "either persona.instructions or persona.inst"),
    ({"persona": {"greeting": "x", "greetingRef": TEXT_REF}}, "either persona.greeting or persona.greetingRef"),
    ({"persona": {"greetingRef": TEXT_REF | {"key": "a/b"}}}, "set a ConfigMap's key: letters, digits"),
    ({"knowledge": [{}]}, "set exactly one of the two"),
    ({"knowledge": [{"configMapRef": {"name": "a"}, "text": "x", "name": "b"}]}, "set exactly one of the two"),
    ({"knowledge": [{"text": "x"}]}, "name and text belong together"),
    ({"knowledge": [{"configMapRef": {"name": "a"}, "name": "b"}]}, "name and text belong together"),
    ({"knowledge": [{"name": "opening hours", "text": "x"}]}, "such as opening-hours"),
    (tool(), "a tool is one of http, mcp, endCall, transfer, sendDTMF: set exactly one"),
    (tool(endCall={}, sendDTMF={}), "a tool is one of http, mcp, endCall, transfer, sendDTMF: set exactly one"),
    (tool(name="order status", endCall={}), "set a name of letters, digits, '_' and '-', such as order_status"),
    (
        tool(name="search_knowledge", endCall={}),
        "search_knowledge is the search of a large knowledge base: set another name",
    ),
    (tool(http=HTTP_TOOL | {"url": "shop.example"}), "set an address such as https://shop.example/orders/{order_id}"),
    (tool(http=HTTP_TOOL | {"parameters": {"type": "string"}}), "Unsupported value"),
    (
        tool(http=HTTP_TOOL | {"headers": [SECRET_HEADER | {"name": "X:"}]}),
        "set the name of an HTTP header, such as Authorization",
    ),
    (
        tool(http=HTTP_TOOL | {"headers": [SECRET_HEADER | {"secretKeyRef": {"name": "shop", "key": "a/b"}}]}),
        "set a Secret's key: letters, digits",
    ),
    (tool(transfer={"to": "030 123456"}), "set a telephone number such as tel:+4930123456 or a SIP address"),
    ({"tools": [{"name": "end", "endCall": {}}, {"name": "end", "sendDTMF": {}}]}, "Duplicate value"),
    ({"livekit": {"url": "wss://livekit..example"}}, "set a WebSocket URL such as"),
    (report(url=f"https://{'a' * 64}.example/calls"), "set an address such as https://shop.example/orders/{order_id}"),
    (report(url="crm.example"), "set an address such as https://shop.example/orders/{order_id}"),
    (report(include=["Usage", "Usage"]), "Duplicate value"),
    (report(include=["Audio"]), "Unsupported value"),
    (report(secretKeyRef={"name": "crm", "key": "a/b"}), "set a Secret's key: letters, digits"),
    (report(secretKeyRef={"name": "C_R_M", "key": "a"}), "set an object's name: lower-case letters"),
    (report(prices={"currency": "dollars", "models": [{"model": "tts-1"}]}), "Too long"),
    (
        report(prices={"currency": "usd", "models": [{"model": "tts-1"}]}),
        "set a currency of three letters, such as USD",
    ),
    (price(model=" "), "set the provider's name of the model"),
    (price(perMillionInputTokens="-1"), "set a price as a number, a fraction in quotes: 15 or '0.15'"),
    (price(perMillionOutputTokens="1,5"), "set a price as a number, a fraction in quotes: 15 or '0.15'"),
    (price(perMillionCharacters="1e3"), "set a price as a number, a fraction in quotes: 15 or '0.15'"),
    (price(perAudioHour="free"), "set a price as a number, a fraction in quotes: 15 or '0.15'"),
    (tracing(otlpEndpoint="collector:4318"), "set a base URL such as http://otel-collector:4318"),
    (tracing(headers=[SECRET_HEADER | {"name": "X:"}]), "set the name of an HTTP header, such as Authorization"),
    (
        tracing(headers=[SECRET_HEADER | {"secretKeyRef": {"name": "shop", "key": "a/b"}}]),
        "set a Secret's key: letters, digits",
    ),
    ({"avatar": {"provider": "Tavus"}}, "set its faceID, palID and credentialsSecretRef"),
    ({"avatar": {"maxSessions": 3}}, "set a provider or remove maxSessions"),
    ({"avatar": {"provider": "Plugin"}}, "provider Plugin needs avatar.plugin"),
    (
        {"avatar": {"provider": "Plugin", "plugin": {"name": "livekit.plugins.bey"}}},
        "such as bey for livekit.plugins.bey",
    ),
    ({"avatar": {"provider": "Tavus", "tavus": TAVUS | {"faceID": "../x"}}}, "set the id that Tavus shows"),
    ({"worker": {"image": "my image"}}, "set an image such as registry.example.com/team/worker:1.0"),
    (
        {"worker": {"agent": "restaurant.agents"}},
        "set a module and a name in it such as my_company.agents:Receptionist",
    ),
    (
        {"worker": {"agent": "restaurant-agents:Receptionist"}},
        "set a module and a name in it such as my_company.agents",
    ),
    (variable(), "set exactly one of value and valueFrom"),
    (variable(value="a", valueFrom={"secretKeyRef": SECRET_KEY}), "set exactly one of value and valueFrom"),
    (variable(valueFrom={}), "set exactly one of secretKeyRef and configMapKeyRef"),
    (variable(name="MENU-DU-JOUR", value="a"), "set a variable name of letters, digits and '_'"),
    (
        variable(name="LIVEKIT_API_KEY", value="a"),
        "choose another name: the operator sets the variables AVATAR_AGENT_*",
    ),
    (variable(name="OPENAI_API_KEY", value="a"), "voice.openai sets the variable OPENAI_API_KEY"),
    (
        variable(name="TAVUS_API_KEY", value="a") | {"avatar": {"provider": "Tavus", "tavus": TAVUS}},
        "avatar.tavus sets the variable TAVUS_API_KEY",
    ),
    (variable(name="AVATAR_AGENT_PORT", value="1"), "choose another name: the operator sets the variables"),
    (source(), "set exactly one of secretRef and configMapRef"),
    (source(secretRef={"name": "a"}, configMapRef={"name": "a"}), "set exactly one of secretRef and configMapRef"),
    (source(secretRef={"name": "a"}, prefix="1_"), "set a prefix of letters, digits and '_'"),
    ({"worker": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}, "Duplicate value"),
    (resources(limits={"cpu": "two"}), "set a quantity such as 250m, 2, 512Mi or 1.5Gi"),
    (resources(limits={"cpu": -1}), "set a quantity such as 250m, 2, 512Mi or 1.5Gi"),
    (resources(limits={"gpu": 1}), "set cpu, memory, ephemeral-storage, or an extended resource"),
    (resources(requests={"memory": "3Gi"}), "a request must not exceed its limit"),
    (resources(requests={"cpu": 3}, limits={"cpu": 2}), "a request must not exceed its limit"),
    (toleration(key="a", operator="Exists", value="b"), "operator Exists ignores the value"),
    (toleration(value="b"), "operator Equal needs a key: set key, or set operator: Exists"),
    (toleration(key="a", tolerationSeconds=1), "set effect: NoExecute or remove tolerationSeconds"),
    (toleration(key="a b"), "set a taint key such as dedicated or example.com/gpu"),
    (toleration(key="a", value="-"), "set a label value: at most 63 letters"),
    (pod(nodeSelector={"a": "b c"}), "set a label value: at most 63 letters"),
    (pod(nodeSelector={"a/b/c": "d"}), "set keys such as disktype or example.com/zone"),
    (pod(imagePullSecrets=[{"name": "registry"}, {"name": "registry"}]), "Duplicate value"),
    (pod(annotations={"": "x"}), "set keys such as disktype or example.com/zone"),
    (
        pod(annotations={"avataragents.io/credentials": "x"}),
        "they are reserved for the operator, or could weaken the pod",
    ),
    (
        pod(annotations={"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"}),
        "they are reserved for the operator, or could weaken the pod",
    ),
    (pod(priorityClassName="Urgent!"), "set a PriorityClass name"),
    ({"scaling": {"minWorkers": 5, "maxWorkers": 2}}, "lower minWorkers or raise maxWorkers"),
    ({"scaling": {"minWorkers": 21}}, "lower minWorkers or raise maxWorkers (by default 1 and 20)"),
    ({"scaling": {"mode": "Fixed"}}, "set scaling.workers, or set mode: Calls"),
    ({"scaling": {"workers": 2}}, "set mode: Fixed, or remove scaling.workers"),
    (
        {"dispatch": {"mode": "Automatic"}, "scaling": {"minWorkers": 0, "freeSlots": 0}},
        "set scaling.minWorkers or scaling.freeSlots to at least 1",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_rejection_says_what_to_set_instead(place: Place, change: dict[str, Any], message: str) -> None:
    assert message in place.refusal("refused", minimal(**change))


def test_name_too_long_for_a_label_is_rejected(place: Place) -> None:
    assert "metadata.name must have at most 63 characters: set a shorter name" in place.refusal("a" * 64, minimal())


def test_every_rule_of_the_schema_has_a_test() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    untested = {message for message in messages(schema) if not any(quoted in message for _, quoted in REFUSED)}
    assert not untested


def messages(node: dict[str, Any]) -> Iterator[str]:
    yield from (rule["message"] for rule in node.get(RULES, []))
    for child in node.get("properties", {}).values():
        yield from messages(child)
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from messages(node[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": {"freeSlots": -1}}, "spec.scaling.freeSlots in body should be greater than or equal to 0"),
        ({"worker": {"maxCallMinutes": 721}}, "spec.worker.maxCallMinutes in body should be less than or equal to 720"),
        ({"dispatch": {"mode": "Manual"}}, 'supported values: "Explicit", "Automatic"'),
        ({"persona": {"greeting": "x" * 1025}}, "spec.persona.greeting: Too long: may not be more than 1024"),
        ({"knowledge": [{"configMapRef": {"name": "a"}}] * 17}, "spec.knowledge: Too many: 17: must have at most 16"),
        ({"livekit": {"url": None}}, "spec.livekit.url: Required value"),
        ({"worker": {"serviceAccountName": "root"}}, 'unknown field "spec.worker.serviceAccountName"'),
        (pod(hostNetwork=True), 'unknown field "spec.worker.pod.hostNetwork"'),
    ],
    ids=["too little", "too much", "not a value", "too long", "too many", "missing", "unknown", "a weaker pod"],
)
def test_wrong_types_and_bounds_are_rejected_by_name(place: Place, change: dict[str, Any], message: str) -> None:
    assert message in place.refusal("refused", minimal(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"livekit": {"url": "ws://10.0.0.1:7880"}},
        {"livekit": {"url": "wss://[2001:db8::1]:443/rtc"}},
        {"livekit": {"url": f"wss://my_host.{'a' * 63}.example:443"}},
        {"avatar": {"tavus": TAVUS}},
        {"scaling": {"mode": "Fixed", "workers": 0}},
        {"scaling": {"mode": "Fixed", "workers": 2, "minWorkers": 25}},
        {"voice": {"llm": {"model": "Llama 3.1 \u0639\u0631\u0628\u064a"}}},
        {"voice": {"openai": None, **dict.fromkeys(("stt", "llm", "tts"), ALONE)}},
        {
            "voice": {
                "stt": {"provider": "Plugin", "plugin": "deepgram", "options": {"tags": ["a"], "endpointing_ms": 25}}
            }
        },
        {
            "voice": {
                "llm": {"fallbacks": [{"provider": "Inference", "model": "openai/gpt-4o"}, {"baseURL": "http://a/"}]}
            }
        },
        {"voice": {"realtime": {"voice": "cedar"}, "tts": {"voice": "nova"}}},
        {"scaling": {"minWorkers": 0, "maxWorkers": 1, "freeSlots": 0}},
        resources(requests={}, limits={}),
        resources(requests={"cpu": 2, "memory": "1.5Gi"}, limits={"cpu": "2000m", "memory": "2Gi"}),
        resources(limits={"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1}),
        toleration(operator="Exists"),
        pod(nodeSelector={"kubernetes.io/arch": "arm64", "empty": ""}, annotations={"example.com/note": "\u00e9\n"}),
        {"persona": {"instructions": "\u0628" * 16384, "greeting": ""}},
    ],
    ids=str,
)
def test_valid_manifest_is_stored_unchanged(place: Place, change: dict[str, Any]) -> None:
    spec = minimal(**change)
    stored = place.apply("accepted", spec, "--dry-run=server")["spec"]
    assert AvatarAgentSpec.model_validate(stored) == AvatarAgentSpec.model_validate(spec)


def test_defaults_of_the_schema_equal_those_of_the_types(place: Place) -> None:
    stored = place.apply("defaults", minimal(), "--dry-run=server")["spec"]
    typed = AvatarAgentSpec.model_validate(minimal())
    filled = typed.model_dump(mode="json", by_alias=True)
    # The schema cannot express the defaults of model and voice: they depend on the provider, which has one.
    filled["voice"] |= {stage: {"provider": "OpenAI"} for stage in ("stt", "llm", "tts")}
    assert without_nothing(stored) == without_nothing(filled)
    assert AvatarAgentSpec.model_validate(stored) == typed


def without_nothing(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return the value without null fields and empty lists and maps, which the API server does not default."""
    if not isinstance(value, dict):
        return value
    pruned = {key: without_nothing(inner) for key, inner in value.items()}
    return {key: inner for key, inner in pruned.items() if inner is not None and inner != [] and inner != {}}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted_and_complete(place: Place, path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a column has a description"
    place.kubectl("apply", "-f", str(path))
    for document in yaml.safe_load_all(text):
        stored = json.loads(place.kubectl("get", document["kind"], document["metadata"]["name"], "-o", "json"))
        if document["kind"] == "AvatarAgent":
            AvatarAgentSpec.model_validate(stored["spec"])
            # The other files of Ornina sort before it.
            for kind, name in references(stored["spec"]):
                place.kubectl("get", kind, name)


def references(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the Secrets and ConfigMaps that a spec names."""
    for key, value in spec.items():
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, dict):
                continue
            if key in ("credentialsSecretRef", "imagePullSecrets") or key == "secretKeyRef":
                yield "secret", node["name"]
            elif key in ("configMapRef", "instructionsRef", "greetingRef"):
                yield "configmap", node["name"]
            else:
                yield from references(node)


def test_kubectl_scale_sets_spec_scaling_workers(place: Place) -> None:
    place.apply("fixed", minimal(scaling={"mode": "Fixed", "workers": 1}))
    counts = {"workers": {"ready": 1}, "selector": "avataragents.io/agent=fixed"}
    status(place, "fixed", counts)
    place.kubectl("scale", "avataragent", "fixed", "--replicas", "3")
    assert json.loads(place.kubectl("get", "ava", "fixed", "-o", "json"))["spec"]["scaling"]["workers"] == 3
    base = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{place.namespace}/avataragents/fixed/scale"
    scale = json.loads(place.kubectl("get", "--raw", base))
    assert scale["status"] == {"replicas": 1, "selector": "avataragents.io/agent=fixed"}


def test_kubectl_scale_in_calls_mode_is_rejected_with_remedy(place: Place) -> None:
    place.apply("following", minimal())
    with pytest.raises(subprocess.CalledProcessError) as raised:
        place.kubectl("scale", "avataragent", "following", "--replicas", "3")
    assert "set mode: Fixed, or remove scaling.workers and set minWorkers and maxWorkers" in raised.value.stderr


def status(place: Place, name: str, document: dict[str, Any]) -> None:
    patch = json.dumps({"status": document})
    place.kubectl("patch", "avataragent", name, "--subresource=status", "--type=merge", "-p", patch)


def test_kubectl_get_shows_the_documented_columns(place: Place) -> None:
    place.apply("shown", minimal(agentName="front-desk"))
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "SecretNotFound",
        "message": "Create it.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    counts = {"workers": {"registered": 2, "desired": 3}, "slots": {"total": 8}, "calls": {"active": 5, "pending": 1}}
    status(place, "shown", {"conditions": [ready], "agentName": "front-desk", **counts})
    head, line = place.kubectl("get", "ava", "shown").splitlines()
    assert head.split() == ["NAME", "READY", "AGENT", "WORKERS", "CALLS", "SLOTS", "REASON", "AGE"]
    assert line.split()[:-1] == ["shown", "False", "front-desk", "2", "5", "8", "SecretNotFound"]
    head, line = place.kubectl("get", "ava", "shown", "-o", "wide").splitlines()
    assert head.split()[-4:] == ["DESIRED", "PENDING", "AVATARS", "MESSAGE"]
    assert line.split()[-5:] == ["3", "1", "0", "Create", "it."]


@pytest.mark.parametrize("category", ["all", "avatar"])
def test_agents_are_in_the_categories(place: Place, category: str) -> None:
    place.apply("listed", minimal())
    assert "avataragent.avataragents.io/listed" in place.kubectl("get", category, "-o", "name").split()


def test_kubectl_explain_describes_a_field(place: Place) -> None:
    assert "Number of workers in mode Fixed." in place.kubectl("explain", "ava.spec.scaling.workers")
    assert "Default `1`; 0 to 1000 workers." in place.kubectl("explain", "ava.spec.scaling.minWorkers")
    assert "How calls reach the agent." in place.kubectl("explain", "avataragent.spec.dispatch")


def test_status_accepts_a_reason_of_another_release(place: Place) -> None:
    place.apply("newer", minimal())
    newer = {"type": "Ready", "status": "False", "reason": "ReasonOfANewerRelease", "message": "x"}
    status(place, "newer", {"conditions": [newer]})
    reason = place.kubectl("get", "avataragent", "newer", "-o", "jsonpath={.status.conditions[0].reason}")
    assert reason == "ReasonOfANewerRelease"


def test_status_without_a_reason_is_rejected(place: Place) -> None:
    place.apply("odd", minimal())
    odd = {"type": "Ready", "status": "False", "reason": "", "message": "x"}
    with pytest.raises(subprocess.CalledProcessError) as raised:
        status(place, "odd", {"conditions": [odd]})
    assert "status.conditions[0].reason" in raised.value.stderr


def test_manifest_of_the_tests_is_valid(place: Place) -> None:
    made = manifests.agent(place.namespace, "made", URL, "http://127.0.0.1:1/v1")
    place.apply("made", made["spec"], "--dry-run=server")
