"""The prose linter with the project's rules: what it refuses and what it lets pass."""

import json
import subprocess
from pathlib import Path

import pytest

from devkit import binaries
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress
from devkit.tools import VALE

pytestmark = pytest.mark.timeout(600)

WORDS = " ".join(["word"] * 29)


@pytest.fixture(scope="session")
def vale() -> str:
    return binaries.ensure(LogProgress(), [VALE])["vale"]


def refused(vale: str, page: Path, text: str) -> list[tuple[str, str]]:
    """The rule and the words of each error that vale reports for a page with this text."""
    page.write_text(text)
    argv = [vale, "--config", str(REPOSITORY / ".vale.ini"), "--output=JSON", "--no-exit", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    errors = json.loads(done.stdout).get(str(page), [])
    return [(error["Check"].removeprefix("AvatarAgent."), error["Match"]) for error in errors]


@pytest.mark.parametrize(
    ("text", "rule", "match"),
    [
        pytest.param("The agent shows a face.", "Words", "face", id="another word for the avatar"),
        pytest.param("A roll-out begins.", "Words", "roll-out", id="another spelling of rollout"),
        pytest.param("The change is held back.", "Words", "held back", id="held back"),
        pytest.param("Reconciles are put\noff.", "Words", "put off", id="words on two lines"),
        pytest.param("| it |\n| --- |\n| Whoever calls is told. |", "Words", "Whoever", id="cell of a table"),
        pytest.param("- The agent is looked at.", "Words", "is looked at", id="item of a list"),
        pytest.param("Write a name.", "Instructions", "Write", id="instruction that begins with Write"),
        pytest.param("Agents use livekit rooms.", "Names", "livekit", id="name in lower case"),
    ],
)
def test_linter_refuses(vale: str, tmp_path: Path, text: str, rule: str, match: str) -> None:
    found = refused(vale, tmp_path / "page.md", text)
    assert (rule, match) in [(name, " ".join(words.split())) for name, words in found]


def test_linter_refuses_sentence_of_31_words(vale: str, tmp_path: Path) -> None:
    found = refused(vale, tmp_path / "page.md", f"A {WORDS} end. A {WORDS}.")
    assert [rule for rule, _ in found] == ["SentenceLength"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("The controller blocks the rollout and reports the reason.", id="plain words"),
        pytest.param("Set `face` and `avatar.tavus.faceID`, in Tavus' API.", id="code"),
        pytest.param("```text\nWrite to somebody whose face is held back.\n```", id="block of code"),
        pytest.param("See [the page](roll-outs/face.md) for faceID.", id="target of a link"),
        pytest.param("Read livekit.url and use livekit-agents.", id="path of a field, name of a package"),
        pytest.param(f"A {WORDS}. Another {WORDS}.", id="30 words twice"),
    ],
)
def test_linter_accepts(vale: str, tmp_path: Path, text: str) -> None:
    assert refused(vale, tmp_path / "page.md", text) == []
