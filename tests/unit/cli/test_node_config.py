"""The file of a machine: what it makes run, and every way in which it can be wrong."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.node_config import MachineConfig, load_node_config

WHOLE = """
machine = "h1"
data_dir = "/var/lib/fs3"
address = "fd00::1"
managers = ["[fd00::1]", "h2:9000"]
kv = "lmdb:/var/lib/fs3/kv"
[mgmtd]
[meta]
port = 7000
[[storage]]
disks = ["/data/1", "/data/2"]
[[storage]]
disks = ["/data/3"]
"""


def load(tmp_path: Path, text: str) -> MachineConfig:
    file = tmp_path / "node.toml"
    file.write_text(text)
    return load_node_config(file)


def test_what_a_machine_runs(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    assert [(process.name, process.port) for process in config.processes] == [
        ("h1-mgmtd", 8000),
        ("h1-meta", 7000),
        ("h1-storage", 8010),
        ("h1-storage-2", 8012),
    ]
    assert config.managers == ("[fd00::1]:8000", "h2:9000")
    assert [str(process.store) for process in config.processes[:2]] == ["lmdb:/var/lib/fs3/kv/mgmtd", "lmdb:/var/lib/fs3/kv/meta"]
    assert config.listen_address() == "fd00::1"


def test_the_command_line_of_a_process(tmp_path: Path) -> None:
    text = WHOLE.replace("/var/lib/fs3", str(tmp_path / "lib"))
    config = load(tmp_path, 'zone = "north"\n' + text)
    storage = config.command(config.processes[2])
    assert storage[storage.index("serve") : storage.index("serve") + 2] == ["serve", "storage"]
    assert storage[storage.index("--listen") + 1] == "[fd00::1]:8010"
    assert storage[storage.index("--grpc-listen") + 1] == "[fd00::1]:8011"
    assert storage[storage.index("--data-dir") + 1] == "/data/1"
    assert storage[storage.index("--disk") + 1] == "/data/2"
    assert storage[storage.index("--mgmtd") + 1] == "[fd00::1]:8000,h2:9000"
    assert storage[storage.index("--zone") + 1] == "north"
    assert storage[storage.index("--rack") + 1] == ""
    assert "--mgmtd" not in config.command(config.processes[0])


def test_where_metrics_and_the_page_are_served(tmp_path: Path) -> None:
    config = load(tmp_path, 'metrics = "[fd00::1]:9400"\n' + WHOLE)
    served = [config.command(process) for process in config.processes]
    assert [words[words.index("--metrics-port") + 1] for words in served] == [f"[fd00::1]:{port}" for port in range(9400, 9404)]
    config = load(tmp_path, WHOLE)
    assert all("--metrics-port" not in config.command(process) for process in config.processes)


def test_a_name_listens_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tmp_path, WHOLE.replace('"fd00::1"', '"h1.example"', 1))
    found = [(socket.AF_INET6, 0, 0, "", ("fd00::1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert config.listen_address() == "::"
    found.append((socket.AF_INET, 0, 0, "", ("10.0.0.1", 0)))  # type: ignore[arg-type]
    assert config.listen_address() == "0.0.0.0"


def test_a_name_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    config = load(tmp_path, WHOLE.replace('"fd00::1"', '"nowhere"', 1))
    with pytest.raises(FS3Error, match=r"node\.toml: address 'nowhere' cannot be resolved: Name or service not known"):
        config.listen_address()


def test_the_first_machine_needs_no_managers(tmp_path: Path) -> None:
    text = WHOLE.replace('managers = ["[fd00::1]", "h2:9000"]\n', "")
    assert load(tmp_path, text).managers == ("[fd00::1]:8000",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WHOLE[:-8], "is not TOML"),
        ("", "missing required field `data_dir`"),
        (WHOLE.replace("machine =", "mashine ="), "unknown key 'mashine'; known keys are address"),
        (WHOLE.replace("port = 7000", 'port = "x"'), "Expected `int`, got `str` - at `$.meta.port`"),
        (WHOLE.replace("port = 7000", "prot = 7000"), "unknown field `prot` - at `$.meta`"),
        (WHOLE.replace("port = 7000", "port = 8000"), "port 8000 is of h1-mgmtd and of h1-meta"),
        (WHOLE.replace("port = 7000", "port = 8001"), "port 8001 is of h1-mgmtd and of h1-meta"),
        (WHOLE.replace("port = 7000", "port = 70000"), "port 70000 of h1-meta: ports are 1 to 65535"),
        (WHOLE.replace("/data/3", "/data/1"), "/data/1 is of h1-storage and of h1-storage-2"),
        (WHOLE.replace("/data/3", "data/3"), "disks 'data/3' is no absolute path"),
        (WHOLE.replace('["/data/3"]', "[]"), "[[storage]] number 2 has no disks"),
        (WHOLE.replace('kv = "lmdb:/var/lib/fs3/kv"\n', ""), "[mgmtd] needs kv"),
        (WHOLE.replace("lmdb:/var/lib/fs3/kv", "redis://x"), "redis://x' is not DIRECTORY, lmdb:DIRECTORY or etcd://"),
        (WHOLE.replace('"h1"', '"h 1"'), "machine 'h 1' is no name: 1 to 63 letters"),
        ('rack = "4/2"\n' + WHOLE, "rack '4/2' is no name: 1 to 63 letters"),
        (WHOLE.replace('"fd00::1"\n', '"::"\n'), "address ::: the others cannot reach it"),
        (WHOLE.replace('"fd00::1"\n', '"a b"\n'), "address 'a b' is neither a name nor an address"),
        (WHOLE.replace("h2:9000", "fd00::2:9000"), "managers: "),
        ('metrics = "here"\n' + WHOLE, "metrics 'here' is not PORT or HOST:PORT"),
        ('metrics = "7998"\n' + WHOLE, "port 8000 is of h1-mgmtd and of the metrics of h1-storage"),
        ('metrics = "65535"\n' + WHOLE, "metrics '65535': each process takes a port, and h1-meta would get 65536"),
        ('machine = "h1"\ndata_dir = "/d"\naddress = "h1"\nmanagers = ["h2"]\n', "nothing is to run"),
        ('machine = "h1"\ndata_dir = "/d"\naddress = "h1"\n[[storage]]\ndisks = ["/e"]\n', "managers says nothing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FS3Error) as wrong:
        load(tmp_path, text)
    assert wrong.value.code is Code.CONFIG
    assert words in str(wrong.value)
    assert "node.toml" in str(wrong.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FS3Error, match="cannot read the configuration"):
        load_node_config(tmp_path / "none.toml")
