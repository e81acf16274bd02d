"""Cost of a pod from its cgroup, in both versions of cgroups."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from devkit import cgroups
from tests.bench.pod_cost import PodCost

UID = "0a1b-2c3d"
V1 = "avatar-agent-bench/kubepods/burstable/pod0a1b-2c3d"
V2 = "avatar-agent-bench/kubepods.slice/kubepods-pod0a1b_2c3d.slice"
MEMORY_V1 = "cache 1\ninactive_file 7\ntotal_inactive_file 1048576\n"
MEMORY_V2 = "anon 1\ninactive_file 1048576\n"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {
                f"memory/{V1}/memory.usage_in_bytes": "4194304\n",
                f"memory/{V1}/memory.stat": MEMORY_V1,
                f"memory/{V1}/container/memory.usage_in_bytes": "99999999\n",
                f"cpuacct/{V1}/cpuacct.usage": "2500000000\n",
                f"cpuacct/{V1}/container/cpuacct.usage": "1\n",
                f"cpu/{V1}/cpu.stat": "nr_periods 0\n",
            },
            id="cgroup v1",
        ),
        pytest.param(
            {
                "cgroup.controllers": "cpu memory\n",
                f"{V2}/memory.current": "4194304\n",
                f"{V2}/memory.stat": MEMORY_V2,
                f"{V2}/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
                f"{V2}/container/memory.current": "99999999\n",
                f"{V2}/container/cpu.stat": "usage_usec 1\n",
            },
            id="cgroup v2",
        ),
    ],
)
def test_cost_of_the_whole_pod_is_read(
    files: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    cost = PodCost("bench", UID)
    assert cost.processor_seconds() == 2.5
    assert cost.memory_mib() == 3.0
