"""The rules of the namespace are those of this machine's kernel: permissions, sticky and set-id bits, special files, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.property.core.meta import kernel_oracle

ROOT = Path(__file__).parents[4]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
@pytest.mark.parametrize("seed", range(12))
def test_steps_are_answered_as_the_kernel_answers_them(tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", kernel_oracle.__name__, str(tmp_path), str(seed), "250"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
