"""`fs3 up` on other addresses, and from other directories."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from fs3.cli.ports import free_ports

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_ipv6_and_a_directory_that_looks_like_the_package(tmp_path: Path) -> None:
    (tmp_path / "fs3").mkdir()
    (tmp_path / "fs3" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    port = free_ports(6)
    fs3 = [sys.executable, "-P", "-m", "fs3.cli.main"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shape = ["--storage", "1", "--replicas", "1", "--port", str(port), "--host", "[::1]"]
    up = [*fs3, "up", "--data-dir", "data", *shape, "--detach"]
    try:
        done = subprocess.run(up, capture_output=True, text=True, timeout=90, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"fs3://[::1]:{port}/" in done.stdout
        fs = fsspec.filesystem("fs3", cluster=f"[::1]:{port}", skip_instance_cache=True)
        fs.pipe_file("/x", b"1")
        assert fs.cat_file("/x") == b"1"
        fs.close()
    finally:
        down = [*fs3, "down", "--data-dir", "data"]
        subprocess.run(down, capture_output=True, timeout=90, cwd=tmp_path, env=environment)
