"""Names and ports of the processes of a local cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.cluster import check_name, choose_shape, role_of, serve_command
from fs3.cli.directory import ClusterDirectory, Shape


def test_nobody_moves_when_managers_and_metadata_processes_are_added() -> None:
    small = Shape(port=8000)
    large = Shape(port=8000, mgmtds=3, metas=2)
    assert {name: small.ports(name) for name in small.names()} == {name: large.ports(name) for name in small.names()}
    larger = Shape(port=8000, mgmtds=3, metas=4)
    assert {name: large.ports(name) for name in large.names()} == {name: larger.ports(name) for name in large.names()}
    for shape in (small, large, larger):
        ports = [port for name in shape.names() for port in shape.ports(name)]
        assert len(set(ports)) == len(ports)
        assert max(ports) < shape.port + shape.port_count()
    assert small.ports("mgmtd") == (8000, 8001)
    assert small.ports("storage-1") == (8004, 8005)
    assert large.names() == ["mgmtd", "mgmtd-2", "mgmtd-3", "meta", "meta-2", "storage-1", "storage-2", "storage-3"]


@pytest.mark.parametrize("name", ["storage", "storage-0", "mgmtd-1", "meta-01", "database", "storage-x", "meta-", ""])
def test_names_no_process_has(name: str) -> None:
    with pytest.raises(FS3Error, match="is not a process of a cluster"):
        role_of(name)


def test_names_this_cluster_does_not_have() -> None:
    check_name(Shape(mgmtds=2), "mgmtd-2", "--only")
    with pytest.raises(FS3Error, match="--only meta-2: this cluster has mgmtd, mgmtd-2, meta, storage-1"):
        check_name(Shape(mgmtds=2), "meta-2", "--only")


def test_storage_processes_stand_in_zones_by_turns(tmp_path: Path) -> None:
    shape = choose_shape({"storage": 5, "zones": 2}, None, tmp_path)
    assert [shape.zone(f"storage-{number}") for number in range(1, 6)] == ["zone-1", "zone-2", "zone-1", "zone-2", "zone-1"]
    command = serve_command(shape, ClusterDirectory(tmp_path), "storage-2")
    assert command[command.index("--zone") + 1] == "zone-2"
    assert "--zone" not in serve_command(Shape(), ClusterDirectory(tmp_path), "storage-2")
    with pytest.raises(FS3Error, match="--zones 4: 0 to 3, one storage process for each zone"):
        choose_shape({"zones": 4}, None, tmp_path)


def test_managers_can_be_added_and_not_removed(tmp_path: Path) -> None:
    kept = Shape(mgmtds=2)
    assert choose_shape({"mgmtds": 3}, kept, tmp_path).mgmtds == 3
    with pytest.raises(FS3Error, match="--mgmtds 1: the cluster in this directory has 2; more can be added, none removed"):
        choose_shape({"mgmtds": 1}, kept, tmp_path)
    with pytest.raises(FS3Error, match="--mgmtds 99: 1 to 16 managers"):
        choose_shape({"mgmtds": 99}, kept, tmp_path)
