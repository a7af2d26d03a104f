"""What `pip install fs3` does to the environment it lands in, and that what it declares is enough. Skipped without an index."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.space import SpaceGuard

pytestmark = [pytest.mark.external, pytest.mark.timeout(600), pytest.mark.xdist_group("installs")]

ROOT = Path(__file__).parents[2]

LMCACHE_PINS = {"grpcio": "1.78.0", "protobuf": "6.33.6"}
"""What LMCache 0.5.6 installs, and what it forbids to raise (protobuf < 7)."""

USE_EMBEDDED = """
import asyncio, sys, tempfile
import fsspec, fs3
fs = fsspec.filesystem("fs3", path=tempfile.mkdtemp())
fs.pipe_file("/a", b"bytes")
assert fs.cat_file("/a") == b"bytes"
with fs.open("/b", "w") as out:
    out.write("text")
assert fs.ls("/", detail=False) == ["/a", "/b"], fs.ls("/", detail=False)
loaded = sorted(name for name in sys.modules if name.split(".")[0].startswith("grpc"))
assert not loaded, loaded
print("used")
"""


def run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command; its output is in the message when it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(space_guard: SpaceGuard) -> Iterator[Path]:
    """A wheel of this tree."""
    with space_guard.lend("wheel") as made:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", made, ROOT)
        yield next(made.glob("fs3-*.whl"))


@pytest.fixture
def make_environment(wheel: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes an environment with `packages` at their versions first, then the wheel; returns its `bin`."""

    def make(packages: Mapping[str, str], *, name: str = "env") -> Path:
        run(sys.executable, "-m", "venv", tmp_path / name)
        bin_ = tmp_path / name / "bin"
        pip = [bin_ / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if packages:
            first = run(*pip, *(f"{package}=={version}" for package, version in packages.items()), check=False)
            if first.returncode != 0 and re.search("connection|No matching distribution", first.stderr, re.IGNORECASE):
                pytest.skip(f"no package index that has {dict(packages)}: {first.stderr.strip().splitlines()[-1]}")
            assert first.returncode == 0, first.stderr
        run(*pip, wheel)
        return bin_

    return make


def installed(bin_: Path) -> dict[str, str]:
    """Package -> version."""
    lines = run(bin_ / "python", "-m", "pip", "freeze", "--disable-pip-version-check").stdout.splitlines()
    return {name: version for name, _, version in (line.partition("==") for line in lines) if version}


def test_a_client_leaves_the_protobuf_and_grpc_of_an_engine_alone(make_environment: Callable[..., Path]) -> None:
    bin_ = make_environment(LMCACHE_PINS)
    found = installed(bin_)
    assert {package: found.get(package) for package in LMCACHE_PINS} == LMCACHE_PINS
    assert run(bin_ / "python", "-c", USE_EMBEDDED).stdout == "used\n"


def test_the_oldest_declared_versions_are_enough(make_environment: Callable[..., Path]) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in declared)  # type: ignore[union-attr]
    assert len(oldest) == len(declared)
    bin_ = make_environment(oldest)
    assert run(bin_ / "python", "-c", USE_EMBEDDED).stdout == "used\n"


def test_services_without_grpc_say_what_to_install(make_environment: Callable[..., Path], tmp_path: Path) -> None:
    bin_ = make_environment({})
    assert "grpcio" not in installed(bin_)
    refused = run(bin_ / "fs3", "up", "--data-dir", tmp_path / "data", "--detach", check=False)
    assert refused.returncode == 1
    assert "pip install 'fs3[server]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()
    assert run(bin_ / "python", "-c", USE_EMBEDDED).stdout == "used\n"
