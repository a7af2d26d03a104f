"""Names as bytes and as texts."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs3.base.names import is_utf8, shown, to_bytes, to_text


@given(st.binary())
def test_every_name_has_one_text_that_gives_it_back(name):
    text = to_text(name)
    assert to_bytes(text) == name
    assert text == os.fsdecode(name)
    shown(text).encode()


@given(st.text(st.characters(codec="utf-8")))
def test_utf8_is_its_own_text(text):
    assert is_utf8(text)
    assert shown(text) == text == to_text(to_bytes(text))


def test_what_is_not_utf8_is_escaped():
    assert not is_utf8("caf\udce9")
    assert shown("é caf\udce9") == r"é caf\xe9"


def test_a_surrogate_that_stands_for_no_byte_is_no_name():
    with pytest.raises(ValueError, match="surrogates"):
        to_bytes("\ud800")
