"""Processor time and memory of a pod, from its cgroup, on machines with cgroup v1 or v2."""

from pathlib import Path

from devkit import cgroups


class PodCost:
    """Reads the cgroup of a pod of the instance, all its containers together."""

    def __init__(self, instance: str, pod_uid: str) -> None:
        # A pod's own cgroup contains those of its containers, so it comes last in each hierarchy.
        self._files = {
            path.name: path for folder in cgroups.pod_folders(instance, pod_uid) for path in folder.iterdir()
        }

    def processor_seconds(self) -> float:
        """Return the processor time so far, ended processes included."""
        if usage := self._files.get("cpuacct.usage"):
            return int(usage.read_text()) / 1e9
        return _field(self._files["cpu.stat"], "usage_usec") / 1e6

    def memory_mib(self) -> float:
        """Return the working set in MiB, as the kubelet computes it: the usage without inactive pages of files."""
        usage = self._files.get("memory.usage_in_bytes")
        inactive = "total_inactive_file" if usage else "inactive_file"
        used = int((usage or self._files["memory.current"]).read_text())
        return (used - _field(self._files["memory.stat"], inactive)) / 1024**2


def _field(file: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == name)
