"""Documents as the API server reads them."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from kube.client import as_yaml


@given(st.text())
def test_every_text_survives_being_sent_as_yaml(text: str) -> None:
    assert yaml.safe_load(as_yaml({"text": text})) == {"text": text}


def test_what_is_beyond_the_basic_plane_is_not_escaped_in_pairs_which_yaml_does_not_know() -> None:
    assert as_yaml({"text": "\U0001f600 \ufeff é"}) == '{"text": "\U0001f600 \\ufeff \\u00e9"}'
