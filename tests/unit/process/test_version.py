"""The version of the code is that of the package and of the chart."""

import tomllib

import yaml

from devkit.paths import REPOSITORY
from process.version import VERSION


def test_version_is_that_of_the_package_and_the_chart() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((REPOSITORY / "charts/avatar-agent/Chart.yaml").read_text())
    values = yaml.safe_load((REPOSITORY / "charts/avatar-agent/values.yaml").read_text())
    assert (project["version"], chart["version"], str(chart["appVersion"])) == (VERSION, VERSION, VERSION)
    assert {values["images"][name].partition(":")[2] for name in ("controller", "worker")} == {VERSION}
