"""JSON in pieces is the very text of JSON in one piece."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from hypothesis import given
from hypothesis import strategies as st

from sam_droplet.web.json_pieces import PiecewiseJson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES)
@pytest.mark.parametrize("options", [{}, {"separators": (",", ":")}, {"indent": 2}])
def test_the_text_is_the_same_as_in_one_piece(options, value):
    app = Flask("x")
    usual = DefaultJSONProvider(app)
    usual.sort_keys = usual.ensure_ascii = False
    text = PiecewiseJson(app).dumps(value, **options)
    assert text == usual.dumps(value, **options)
    assert json.loads(text) == value
