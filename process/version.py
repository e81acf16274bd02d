"""The version of this code. The images hold no package metadata, so it is a constant; a test compares it with
pyproject.toml and the chart."""

from typing import Final

VERSION: Final = "0.1.0"
