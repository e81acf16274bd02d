"""Helm, as the devkit builds it."""

import pytest

from devkit import binaries
from devkit.progress import LogProgress
from devkit.tools import HELM
from tests.chart.rendering import Renderer


@pytest.fixture(scope="session")
def render() -> Renderer:
    return Renderer(str(binaries.ensure(LogProgress(), [HELM])["helm"]))
