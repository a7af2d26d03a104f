"""Names on standard output: escaped for people, as they are for programs."""

from __future__ import annotations

import io
import sys

import pytest

from fs3.cli.files import _write


@pytest.mark.parametrize(("terminal", "shown"), [(True, rb"caf\xe9"), (False, b"caf\xe9")])
def test_a_name_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: bytes) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    _write("caf\udce9")
    assert out.buffer.getvalue() == shown  # type: ignore[attr-defined]
