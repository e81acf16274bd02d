"""The average length of a page's sentences: what counts, and when a page is too long."""

from pathlib import Path

import pytest

from devkit import prose

LONG = " ".join(["word"] * 20) + "."
SHORT = "Three short words."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("One two. Three four five six!", 3.0, id="two sentences"),
        pytest.param("One two\nthree? *Four.* (Five.)", 5 / 3, id="line break, emphasis and brackets"),
        pytest.param("Use 1.25 of `spec.voice.tts`.", 4.0, id="full stops within words"),
        pytest.param("The list:\n\n- one\n- two\n- three.", 5.0, id="list without full stops is one sentence"),
        pytest.param("See [the page](https://example.com/one.?two=three!four).", 3.0, id="target of a link"),
        pytest.param(f"# A heading without an end\n\n{SHORT}", 3.0, id="heading"),
        pytest.param(f"---\ntitle: {LONG}\n---\n{SHORT}", 3.0, id="front matter"),
        pytest.param(f"<!-- {LONG} -->\n\n{SHORT}", 3.0, id="comment"),
        pytest.param(f"```text\n{LONG}\n```\n\n{SHORT}", 3.0, id="block of code"),
        pytest.param(f"| a |\n| --- |\n| {LONG} |\n\n{SHORT}", 3.0, id="table"),
        pytest.param("# Nothing else", 0.0, id="no prose"),
    ],
)
def test_average_counts_prose_only(text: str, words: float) -> None:
    assert prose.average(text) == pytest.approx(words)


def test_page_with_long_sentences_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "long.md").write_text(f"{LONG} {LONG}")
    (tmp_path / "mixed.md").write_text(f"{LONG} {SHORT}")
    assert prose.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/long.md: 20.0 words a sentence on average, at most 19 are allowed\n"


def test_descriptions_of_crd_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crd = tmp_path / "crd.yaml"
    crd.write_text(f"a: {{description: {LONG}, items: [{{description: Once.}}, {{description: Once.}}]}}\nb: Not.\n")
    assert prose.read(crd) == f"{LONG}\n\nOnce."
    assert prose.main([str(crd)]) == 0
    assert prose.main(["--print", str(crd)]) == 0
    assert capsys.readouterr().out == f"{LONG}\n\nOnce.\n"
    crd.write_text(f"description: {LONG}\n")
    assert prose.main([str(crd)]) == 1


def test_page_with_short_sentences_passes(tmp_path: Path) -> None:
    (tmp_path / "short.md").write_text(SHORT)
    assert prose.main([str(tmp_path / "short.md")]) == 0
