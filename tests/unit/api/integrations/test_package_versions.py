"""Which SGLang and which LMCache the adapters are for, said when they are imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

import pytest

MODULES = {"sglang": "fs3.api.integrations.sglang", "lmcache": "fs3.api.integrations.lmcache"}
SUPPORTED = {"sglang": r"SGLang 0\.5\.23", "lmcache": r"LMCache 0\.5\.6"}
ENGINES = pytest.mark.parametrize("engine", MODULES)


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of an adapter or an engine was imported before."""
    for module in MODULES.values():
        monkeypatch.delitem(sys.modules, module, raising=False)


def install(monkeypatch: pytest.MonkeyPatch, engine: str, found: str) -> None:
    """Only what the package says of itself; nothing of it can be imported."""
    monkeypatch.setattr(importlib.metadata, "version", {engine: found}.__getitem__)
    monkeypatch.setitem(sys.modules, engine, None)


@ENGINES
@pytest.mark.parametrize("found", ["0.4.9", "0.5.2", "0.6.0", "1.0"])
def test_another_version_is_named_beside_the_supported_one(engine: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, engine, found)
    with pytest.raises(ImportError, match=rf"{SUPPORTED[engine]}.*; this is {SUPPORTED[engine].split()[0]} {found}"):
        importlib.import_module(MODULES[engine])


@ENGINES
def test_one_without_the_interface(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, engine, SUPPORTED[engine].split()[1].replace("\\", ""))
    with pytest.raises(ImportError, match=rf"{SUPPORTED[engine]}: .*{engine}"):
        importlib.import_module(MODULES[engine])


@ENGINES
def test_none(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match=rf"{SUPPORTED[engine]}: .*{engine}"):
        importlib.import_module(MODULES[engine])
