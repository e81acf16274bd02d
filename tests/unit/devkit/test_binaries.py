"""When a program is built again, and when the machine's own is suitable."""

from dataclasses import replace

import pytest

from devkit.binaries import cache_key, has_version
from devkit.golang import parse_version
from devkit.tools import BENCH_TOOLS, CHECK_TOOLS, ETCD, KUBERNETES, TOOLS, Tool

FILES = [b"module tools\n", b"checksums\n"]


def test_cache_key_is_equal_for_equal_inputs() -> None:
    assert cache_key(ETCD, FILES) == cache_key(ETCD, list(FILES))


@pytest.mark.parametrize(
    ("tool", "files"),
    [
        pytest.param(ETCD, [b"module tools\n", b"other checksums\n"], id="another checksum"),
        pytest.param(ETCD, [b"module tools\nchecksums\n", b""], id="same bytes, divided differently"),
        pytest.param(replace(ETCD, packages={"etcd": "elsewhere"}), FILES, id="another package"),
        pytest.param(replace(ETCD, stamps=("a.b=c",)), FILES, id="another linker flag"),
    ],
)
def test_cache_key_changes_with_every_input(tool: Tool, files: list[bytes]) -> None:
    assert cache_key(tool, files) != cache_key(ETCD, FILES)


@pytest.mark.parametrize(
    ("output", "wanted", "expected"),
    [
        pytest.param("Kubernetes v1.37.0", "1.37.2", True, id="another patch release"),
        pytest.param("Kubernetes v1.32.4-dispatcher", "1.37.2", False, id="another minor release"),
        pytest.param("etcd Version: 3.7.3\nGo Version: go1.26.8", "3.7.3", True, id="the first number counts"),
        pytest.param("livekit-server version 2.13.5", "1.13.5", False, id="another major release"),
        pytest.param("usage: helm", "4.3.1", False, id="no version at all"),
    ],
)
def test_version_matches_by_major_and_minor(output: str, wanted: str, expected: bool) -> None:
    assert has_version(output, wanted) is expected


def test_every_tool_has_a_module_with_checksums() -> None:
    for tool in (*TOOLS, *BENCH_TOOLS, *CHECK_TOOLS):
        assert (tool.module / "go.sum").stat().st_size > 0
        assert tool.version in (tool.module / "go.mod").read_text(), f"{tool.name}: tools.py and go.mod disagree"


def test_kubernetes_binaries_contain_their_version() -> None:
    assert "gitVersion=v1.37.2" in KUBERNETES.linker_flags
    assert "gitMinor=37" in KUBERNETES.linker_flags


def test_go_version_is_parsed_from_its_output() -> None:
    assert parse_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert parse_version("bash: go: command not found") is None
