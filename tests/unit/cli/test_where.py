"""What a verb is told is a cluster in one way, whichever verb it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.cli.directory import ClusterDirectory, Shape
from fs3.cli.where import is_directory, is_embedded, manager_addresses_of


@pytest.mark.parametrize(
    ("where", "addresses"),
    [
        ("fs3://a:8000", ["a:8000"]),
        ("a:8000", ["a:8000"]),
        ("fs3://a:1,b:2/", ["a:1", "b:2"]),
        ("a:1,[::1]:2", ["a:1", "[::1]:2"]),
        ("localhost", ["localhost:8000"]),
    ],
)
def test_addresses(where: str, addresses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert manager_addresses_of(where) == addresses
    monkeypatch.setenv("FS3_CLUSTER", where)
    assert manager_addresses_of(None) == addresses


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "data"
    with pytest.raises(FS3Error, match="neither fs3://host:port nor the data directory of a cluster"):
        manager_addresses_of(str(home))
    home.mkdir()
    ClusterDirectory(home).save(Shape(port=9000, mgmtds=2), {})
    every = ["127.0.0.1:9000", "127.0.0.1:9010"]
    assert manager_addresses_of(str(home)) == every
    monkeypatch.chdir(tmp_path)
    assert manager_addresses_of("data") == every, "a directory that there is comes before a host of its name"
    assert not is_directory("other")


def test_embedded_services_have_no_managers(tmp_path: Path) -> None:
    for name in ("meta", "storage"):
        (tmp_path / name).mkdir()
    assert is_embedded(str(tmp_path))
    with pytest.raises(FS3Error, match="embedded services have no managers"):
        manager_addresses_of(str(tmp_path))
