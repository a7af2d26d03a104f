"""The identity of a machine: drawn once, read by its owner alone, and refused when it is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.machine_directory import ensure_identity, load_identity

CLUSTER = b"c" * 16


def test_it_is_drawn_once_and_kept(tmp_path: Path) -> None:
    first = ensure_identity(tmp_path / "lib", "h1")
    assert (tmp_path / "lib" / "machine.json").stat().st_mode & 0o077 == 0
    with pytest.raises(FS3Error, match="machine 'h1' has joined no cluster: run `fs3 cluster join`"):
        first.require_cluster()
    first.join(CLUSTER, "prod")
    again = ensure_identity(tmp_path / "lib", "h1")
    assert again.proof == first.proof
    assert (again.require_cluster(), again.cluster_name) == (CLUSTER, "prod")
    assert ensure_identity(tmp_path / "other", "h1").proof.key != first.proof.key


def test_one_of_another_machine(tmp_path: Path) -> None:
    ensure_identity(tmp_path, "h1")
    with pytest.raises(FS3Error, match="the directory is of machine 'h1', not of 'h2'"):
        ensure_identity(tmp_path, "h2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said[:20], "the identity of the machine is damaged"),
        (lambda said: json.dumps({**json.loads(said), "key": "00"}), "cut short"),
        (lambda said: json.dumps({**json.loads(said), "cluster": "xyz"}), "damaged"),
        (lambda said: json.dumps({**json.loads(said), "format": 2}), "format 2, this version of fs3 reads 1"),
    ],
    ids=["half written", "short key", "no hex", "another format"],
)
def test_one_that_is_not_whole(tmp_path: Path, change, words: str) -> None:
    ensure_identity(tmp_path, "h1")
    file = tmp_path / "machine.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(FS3Error, match=words) as wrong:
        load_identity(tmp_path)
    assert wrong.value.code is Code.CONFIG


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(FS3Error, match="this machine is not set up") as wrong:
        load_identity(tmp_path)
    assert wrong.value.code is Code.NOT_FOUND
