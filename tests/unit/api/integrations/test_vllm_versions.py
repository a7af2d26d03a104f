"""Which vLLM the tier is for, said when it is imported."""

from __future__ import annotations

import importlib
import sys
import types

import pytest

MODULE = "fs3.api.integrations.vllm"


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)


def vllm(version: str) -> types.ModuleType:
    module = types.ModuleType("vllm")
    module.__version__ = version  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("version", ["0.31.2", "0.34.0", "1.0"])
def test_another_version_is_named_beside_those_that_are_supported(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", vllm(version))
    with pytest.raises(ImportError, match=rf"is for vLLM 0\.32 and 0\.33: .* this is vLLM {version}"):
        importlib.import_module(MODULE)


def test_one_without_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", vllm("0.32.0"))
    with pytest.raises(ImportError, match=r"is for vLLM 0\.32 and 0\.33: .*vllm"):
        importlib.import_module(MODULE)


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"is for vLLM 0\.32 and 0\.33"):
        importlib.import_module(MODULE)
