"""Helm and promtool, as the devkit builds and downloads them."""

import pytest

from devkit import binaries, debian
from devkit.progress import LogProgress
from devkit.tools import HELM
from tests.chart.rendering import Renderer


@pytest.fixture(scope="session")
def render() -> Renderer:
    return Renderer(str(binaries.ensure(LogProgress(), [HELM])["helm"]))


@pytest.fixture(scope="session")
def promtool() -> str:
    return str(debian.ensure(LogProgress(), debian.PROMETHEUS)["promtool"])
