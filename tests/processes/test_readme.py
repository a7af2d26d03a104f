"""Every command and every program of the README runs, against a cluster of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.cli.ports import free_ports
from fs3.sim.conformance.fuse import why_no_mount

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(command: list[str] | str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONWARNINGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as local:
        yield local


def test_the_shell_commands(tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if "fs3 up" in block and not {"mount", "security"} & set(block.split())]
    port = str(free_ports(10))
    lines = [line for line in script.splitlines() if line and not line.startswith("pip install")]
    assert all(line.startswith("fs3 ") for line in lines)
    script = "\n".join(lines).replace("/tmp/fs3-data", str(tmp_path / "data")).replace(":8000", f":{port}")
    script = script.replace("fs3 up ", f"fs3 up --port {port} ")
    try:
        done = run(["bash", "-euxc", script])
    finally:
        subprocess.run([str(BIN / "fs3"), "down", "--data-dir", str(tmp_path / "data")], check=False, capture_output=True)
    assert Path("/etc/hostname").read_text() in done.stdout


def test_security(tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if "fs3 security" in block]
    assert script in (ROOT / "docs" / "security.md").read_text()
    port = str(free_ports(10))
    script = script.replace("/tmp/fs3-secure", str(tmp_path / "data")).replace(":8000", f":{port}")
    try:
        run(["bash", "-euxc", script.replace("fs3 up ", f"fs3 up --port {port} ")])
        shown = run([str(BIN / "fs3"), "status", str(tmp_path / "data")]).stdout
        assert "security: on; between machines, encrypted (TLS)" in shown
    finally:
        subprocess.run([str(BIN / "fs3"), "down", "--data-dir", str(tmp_path / "data")], check=False, capture_output=True)


@pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}")
def test_the_mount(tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if "fs3 mount" in block]
    port = str(free_ports(10))
    script = script.replace("/tmp/fs3-", f"{tmp_path}/").replace(":8000", f":{port}")
    try:
        done = run(["bash", "-euxc", script.replace("fs3 up ", f"fs3 up --port {port} ")])
    finally:
        subprocess.run([str(BIN / "fs3"), "umount", "--lazy", str(tmp_path / "mount")], check=False, capture_output=True)
        subprocess.run([str(BIN / "fs3"), "down", "--data-dir", str(tmp_path / "data")], check=False, capture_output=True)
    listed = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith("-")}
    assert listed == set(os.listdir("/etc/default"))


def test_the_remaining_shell_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([a-z]+)", README))
    assert {"demo", "test", "bench", "sim", "setup", "check"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_engines_are_started_with_is_what_their_tests_run() -> None:
    documented = (ROOT / "docs" / "kvcache.md").read_text()
    engines = [block for block in blocks("sh") if re.search(r"pip install fs3 \w", block)]
    assert len(engines) == 3
    assert all(block in documented for block in engines)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_programs(number: int, cluster: LocalCluster) -> None:
    if "pandas" in blocks("python")[number]:
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
    program = blocks("python")[number].replace("127.0.0.1:8000", cluster.address)
    done = run([sys.executable, "-c", program])
    assert done.stdout


def test_the_demo(tmp_path: Path) -> None:
    """What `make demo` runs, smaller."""
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    done = run([sys.executable, "-m", "benches.demo", "--scale", "0.02", "--data-dir", str(tmp_path / "demo")], cwd=ROOT)
    for step in ("Parquet", "KV pages get", "beyond their budget", "GraySort validate", "ratio"):
        assert step in done.stdout
    assert not (tmp_path / "demo").exists()
