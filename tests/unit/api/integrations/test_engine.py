"""What adapters of engines share: options, names of namespaces, versions."""

from __future__ import annotations

import pytest

from fs3.api.integrations.engine import EngineOptions, check_version, namespace_name, unknown_options
from fs3.base.limits import namespace_name_bytes_max


def test_options_with_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS3_CLUSTER", "fs3://from-the-environment:1")
    assert EngineOptions.read("vLLM", {}) == EngineOptions("fs3://from-the-environment:1", 0, 10.0, "")
    given = {"url": "fs3://h:1", "replicas": 2, "timeout": 3, "name": "rev7", "of the engine": True}
    assert EngineOptions.read("vLLM", given) == EngineOptions("fs3://h:1", 2, 3.0, "rev7")
    assert unknown_options(given) == ["of the engine"]
    assert unknown_options(given, {"of the engine"}) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, 'fs3 for vLLM wants "url"'),
        ({"url": 5}, "url is not text but int"),
        ({"url": "fs3://h:1", "name": 5}, "name is not text but int"),
        ({"url": "fs3://h:1", "replicas": "2"}, "replicas is not an integer but str"),
        ({"url": "fs3://h:1", "replicas": -1}, "replicas -1"),
        ({"url": "fs3://h:1", "timeout": "10"}, "timeout is not a number of seconds but str"),
        ({"url": "fs3://h:1", "timeout": 0}, "timeout 0"),
    ],
)
def test_an_option_that_cannot_be_is_named(given: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FS3_CLUSTER", raising=False)
    with pytest.raises((TypeError, ValueError), match=said):
        EngineOptions.read("vLLM", given)


def test_names() -> None:
    assert namespace_name("", "vllm", "org/model", "bfloat16") == "vllm/org/model/bfloat16"
    long = namespace_name("vllm", "/models/" + "ä" * 200, "bfloat16")
    other = namespace_name("vllm", "/models/" + "ä" * 200, "float16")
    assert long != other
    assert all(len(name.encode()) <= namespace_name_bytes_max for name in (long, other))
    assert long.startswith("vllm//models/ä")


@pytest.mark.parametrize("found", ["0.32", "0.32.0", "0.32.1", "0.32.0+cpu", "0.32+cpu", "0.33.0rc1"])
def test_a_version_that_is_supported(found: str) -> None:
    check_version("vLLM", found, ("0.32", "0.33"))


@pytest.mark.parametrize("found", ["0.3", "0.320.1", "0.31.9", "1.0.32", "dev"])
def test_one_that_is_not_is_named_beside_those_that_are(found: str) -> None:
    with pytest.raises(ImportError, match=rf"vLLM 0\.32 and 0\.33; this is vLLM {found}"):
        check_version("vLLM", found, ("0.32", "0.33"))
