"""Own code of an agent: what may be named, what it receives, and broken agents that a worker explains."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentspec.wire import DispatchMetadata
from avatar_agent import CONTRACT_VERSION, CallContext
from tests.unit.worker.builders import make_config
from worker import own_code
from worker.call.call_agent import call_context, make_agent

CALL = CallContext(
    facts={"plan": "gold"},
    instructions="You are a guide.",
    settings={"shop": "Ornina"},
    started=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `shop` in the import path, to be written by the test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "shop.py"
    sys.modules.pop("shop", None)


def write(file: Path, text: str) -> None:
    header = "from avatar_agent import CallContext\nfrom livekit.agents import Agent, function_tool\n"
    file.write_text(header + textwrap.dedent(text))


def test_class_without_arguments_works_unchanged(package: Path) -> None:
    """As in LiveKit's agent-starter-python."""
    write(
        package,
        """
        class Assistant(Agent):
            def __init__(self) -> None:
                super().__init__(instructions="You are a friendly assistant.")
        """,
    )
    assert own_code.load("shop:Assistant")(CALL).instructions == "You are a friendly assistant."


def test_class_with_one_argument_receives_the_call(package: Path) -> None:
    write(
        package,
        """
        class Assistant(Agent):
            def __init__(self, call: CallContext, *, loud: bool = False) -> None:
                super().__init__(instructions=f"{call.instructions} {call.facts['plan']} {call.settings['shop']}")
        """,
    )
    assert own_code.load("shop:Assistant")(CALL).instructions == "You are a guide. gold Ornina"


@pytest.mark.parametrize("signature", ["", "call", "call, tone='calm'", "*args", "**options"])
def test_factory_returns_the_agent(package: Path, signature: str) -> None:
    write(
        package,
        f"class Makers:\n    @staticmethod\n    def make({signature}):\n        return Agent(instructions='x')\n",
    )
    assert own_code.load("shop:Makers.make")(CALL).instructions == "x"


CASES = {
    "missing module": ("shop_that_is_not_there:Assistant", "", "No module named 'shop_that_is_not_there'"),
    "missing module inside": (
        "shop:Assistant",
        "import not_installed",
        "No module named 'not_installed' (shop.py, line 3)",
    ),
    "no such name": ("shop:Assistant", "class Assistent(Agent): pass", "shop has no Assistant"),
    "not an agent": ("shop:Assistant", "class Assistant: pass", "no subclass of livekit.agents.Agent"),
    "a text": ("shop:Assistant", "Assistant = 'x'", "neither a class nor a function, but of type str"),
    "raises at import": (
        "shop:Assistant",
        "raise ValueError('no key\\nset it')",
        "ValueError: no key set it (shop.py, line 3)",
    ),
    "exits at import": ("shop:Assistant", "import sys\nsys.exit(3)", "SystemExit: 3 (shop.py, line 4)"),
    "ends the process": ("shop:Assistant", "import os\nos._exit(3)", "the import ended the process with exit status 3"),
    "crashes": ("shop:Assistant", "import os\nos.abort()", "the import crashed with SIGABRT"),
    "hangs at import": ("shop:Assistant", "import time\ntime.sleep(3600)", "the import did not finish within 1 s"),
    "needs two arguments": (
        "shop:Assistant",
        "class Assistant(Agent):\n    def __init__(self, call, tone): pass",
        "Assistant needs the arguments call, tone; it may need one at most, the call",
    ),
    "needs a keyword": ("livekit.agents:Agent", "", "Agent needs the arguments instructions;"),
    "returns nothing": ("shop:make", "def make(): pass", "make returned NoneType, not a livekit.agents.Agent"),
    "is asynchronous": ("shop:make", "async def make(): pass", "make returned coroutine, not"),
    "raises when created": (
        "shop:Assistant",
        "class Assistant(Agent):\n    def __init__(self):\n        {}['menu']",
        "KeyError: 'menu' (shop.py, line 5)",
    ),
    "two tools of one name": (
        "shop:Assistant",
        "@function_tool\nasync def menu() -> str: ...\n\n"
        "class Assistant(Agent):\n    def __init__(self):\n        super().__init__(instructions='x', tools=[menu])\n\n"
        "    @function_tool\n    async def menu(self) -> str: ...",
        "livekit-agents rejects the agent's tools: duplicate function name: menu",
    ),
    "tool of the manifest's name": (
        "shop:Assistant",
        "class Assistant(Agent):\n    def __init__(self):\n        super().__init__(instructions='x')\n\n"
        "    @function_tool\n    async def end_call(self) -> str: ...",
        "the agent and spec.tools both have a tool named end_call: rename one of them",
    ),
    "syntax error": (
        "shop:Assistant",
        "class Assistant(Agent)\n    pass",
        "SyntaxError: expected ':' (shop.py, line 3)",
    ),
}
"""Code, the module's text, and a part of the failure."""


CHECK = """
import json, logging, sys
from tests.unit.worker.test_own_code import CALL
from worker import own_code

logging.basicConfig()
verdicts = {}
for name, (folder, code, seconds) in json.load(sys.stdin).items():
    sys.path.insert(0, folder)
    verdicts[name] = [own_code.check(code, CALL, declared=["end_call"], seconds=seconds), "shop" in sys.modules]
    sys.path.remove(folder)
print(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[str, bool]], str]:
    """The verdict on each case and whether the main process imported the code; and the log.

    One process without threads checks all, as a worker does.
    """
    cases = {}
    for name, (code, text, expected) in CASES.items():
        folder = tmp_path_factory.mktemp("code")
        write(folder / "shop.py", text)
        cases[name] = [str(folder), code, 1.0 if "within 1 s" in expected else 60.0]
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=110, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("name", CASES)
def test_check_explains_broken_code(checked: tuple[dict[str, tuple[str, bool]], str], name: str) -> None:
    failure, imported_here = checked[0][name]
    expected = CASES[name][2]
    assert expected in failure if expected else failure == ""
    assert "\n" not in failure and len(failure) <= 600
    assert not imported_here, "a crash at import must not end the worker"


def test_log_has_traceback_and_stacks(checked: tuple[dict[str, tuple[str, bool]], str]) -> None:
    log = checked[1]
    assert "raise ValueError('no key" in log, "the whole traceback of an error"
    assert re.search(r'shop.py", line 4 in <module>', log), "where a hanging import waits"


def test_own_code_receives_everything_about_the_call() -> None:
    config = make_config(
        agentCode="shop:Assistant", settings={"shop": {"id": 7}}, knowledge=[{"name": "hours", "text": "At eight."}]
    )
    metadata = DispatchMetadata(
        call_id="c1",
        caller_identity="salma",
        user_id="u7",
        language="en",
        capabilities=["video"],
        metadata={"plan": "gold"},
    )
    call = call_context(config, metadata, room="ornina-c1", job_id="j1")
    assert (call.call_id, call.room, call.job_id, call.agent) == ("c1", "ornina-c1", "j1", "default/ornina")
    assert (call.caller_identity, call.user_id, call.language, call.caller_language) == ("salma", "u7", "ar", "en")
    assert (call.capabilities, dict(call.facts), call.settings) == (("video",), {"plan": "gold"}, {"shop": {"id": 7}})
    assert "At eight." in call.instructions and call.knowledge[0].name == "hours"
    assert call.greeting == "مرحباً" and call.started.utcoffset() == timedelta()


async def test_own_agent_knows_the_facts_of_the_call(package: Path) -> None:
    write(package, "def make(call): return Agent(instructions=call.instructions)")
    agent = await make_agent(
        make_config(agentCode="shop:make"), DispatchMetadata(call_id="c", metadata={"plan": "gold"})
    )
    (message,) = agent.chat_ctx.messages()
    assert message.role == "user" and "gold" in (message.text_content or "")
    assert "gold" not in str(agent.instructions)


def test_contract_has_a_version() -> None:
    assert CONTRACT_VERSION == 1


def test_failure_is_short() -> None:
    assert len(own_code.describe(ValueError("x" * 5000), "shop:Assistant")) <= 600
