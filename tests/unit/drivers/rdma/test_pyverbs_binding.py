"""What the binding says when the library is missing, is of another Python, or when the system gives it no memory. Nothing here
needs a device, or the library."""

from __future__ import annotations

import errno
import importlib.util
import resource
import sys
from pathlib import Path

import pytest

from fs3.drivers.rdma import pyverbs_binding
from fs3.drivers.rdma.verbs import VerbsError


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library is looked for, and nowhere else."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyverbs" else find_spec(name))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyverbs"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(pyverbs_binding, "system_packages", str(tmp_path))
    return tmp_path


def test_without_the_library_it_says_what_to_install(packages: Path) -> None:
    with pytest.raises(VerbsError, match="there is no pyverbs: install python3-pyverbs and rdma-core"):
        pyverbs_binding.load()


def test_a_library_of_another_python(packages: Path) -> None:
    (packages / "pyverbs").mkdir()
    (packages / "pyverbs" / "__init__.py").touch()
    for _ in range(2):
        with pytest.raises(VerbsError, match=r"pyverbs cannot be imported: No module named 'pyverbs\.device'"):
            pyverbs_binding.load()
        assert "pyverbs" not in sys.modules


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ((64 * 1024, 64 * 1024), "The limit for this process (ulimit -l) is 64 KiB; raise it: `ulimit -l unlimited`, or"),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "has no limit"),
    ],
)
def test_memory_that_cannot_be_locked(monkeypatch: pytest.MonkeyPatch, limit: tuple[int, int], says: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: limit)
    refused = OSError(errno.ENOMEM, "Failed to register a MR")
    for problem in (refused, RuntimeError("Failed to register a MR. Errno: 12, Cannot allocate memory")):
        assert says in pyverbs_binding._reason(problem)
        assert "LimitMEMLOCK=infinity in the unit of the service" in pyverbs_binding._reason(problem)
    assert pyverbs_binding._reason(RuntimeError("No such device\nand more")) == "No such device"
