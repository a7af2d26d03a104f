"""A cluster of real processes that speak TLS to other machines."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import fs3
from fs3.base.errors import Unreachable
from fs3.cli.local import LocalCluster
from fs3.cli.local_tls import addresses_of, tls_home
from fs3.cli.ports import free_ports
from fs3.drivers.tls import private_authority
from tests.space import SpaceGuard


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    with space_guard.lend("tls") as directory, LocalCluster(directory / "cluster", tls=True) as running:
        yield running


def ca_of(cluster: LocalCluster) -> str:
    return str(tls_home(cluster.directory) / "ca.crt")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FS3_TLS")}
    return subprocess.run(
        [sys.executable, "-m", "fs3.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=kept | environment,
    )


@pytest.mark.parametrize("transport", ["tcp", "grpc", "auto"])
def test_files_by_every_wire(cluster: LocalCluster, transport: str) -> None:
    options = {"cluster": cluster.address, "transport": transport, "tls_ca": ca_of(cluster), "skip_instance_cache": True}
    files = fsspec.filesystem("fs3", **options)
    data = os.urandom(9_000_001)
    files.pipe_file(f"/{transport}", data)
    assert files.cat_file(f"/{transport}") == data
    with files.open(f"/{transport}", "rb", cache_type="none") as file:
        for at in range(0, len(data), 1_234_567):
            file.seek(at)
            assert file.read(4096) == data[at : at + 4096]


def test_everything_between_machines_is_encrypted(cluster: LocalCluster) -> None:
    status = cluster.status()
    offered = [endpoint for node in (*status["managers"], *status["nodes"]) for endpoint in node["endpoints"]]
    assert {endpoint.partition("://")[0] for endpoint in offered} == {"tls", "grpcs", "local"}


async def test_pages_of_a_cache(cluster: LocalCluster) -> None:
    cache = await fs3.KVCache.open(
        cluster.address, namespace="tls", page_bytes=1_000_000, replicas=2, transport="tcp", tls_ca=ca_of(cluster)
    )
    pages = [os.urandom(1_000_000) for _ in range(4)]
    keys = [b"page-%d" % number for number in range(4)]
    await cache.put_from(keys, pages)
    into = [bytearray(1_000_000) for _ in keys]
    assert all(status.name == "OK" for status in await cache.get_into(keys, into))
    assert [bytes(each) for each in into] == pages
    await cache.close()


def test_a_client_without_the_authority_is_told_what_it_lacks(cluster: LocalCluster) -> None:
    done = command("ls", f"fs3://{cluster.address}/")
    assert done.returncode == 1
    assert "speaks TLS only: this client has to be given tls_ca" in done.stderr


def test_a_client_of_another_authority_is_told(cluster: LocalCluster, tmp_path: Path) -> None:
    other = str(private_authority.make_authority(tmp_path, "other"))
    with pytest.raises(Unreachable, match="its certificate is refused: it is of none of the authorities in tls_ca"):
        asyncio.run(fs3.connect(cluster.address, tls_ca=other))


def test_commands_take_the_authority_from_the_environment_or_the_directory(cluster: LocalCluster) -> None:
    for arguments, environment in (
        (["status", cluster.address, "--json"], {"FS3_TLS_CA": ca_of(cluster)}),
        (["status", "--data-dir", str(cluster.directory.path), "--json"], {}),
    ):
        done = command(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["health"] == "healthy"
    done = command("ls", f"fs3://{cluster.address}/", FS3_TLS_CA=ca_of(cluster))
    assert done.returncode == 0, done.stderr
    done = command("status", cluster.address, FS3_TLS_CA="/nowhere/ca.crt")
    assert done.returncode == 1
    assert "/nowhere/ca.crt" in done.stderr


def test_a_process_is_asked_for_a_renewed_certificate_without_a_restart(cluster: LocalCluster) -> None:
    home = tls_home(cluster.directory)
    pid = cluster.directory.running_pid("mgmtd")
    cert = home / "mgmtd.crt"
    before = served_certificate(cluster.address)
    private_authority.issue(home, home, "mgmtd", addresses_of(cluster.shape))
    wanted = private_authority.describe(cert)[0]["sha256"]
    while (now := served_certificate(cluster.address)) == before:
        pass
    assert now == wanted
    assert cluster.directory.running_pid("mgmtd") == pid


def served_certificate(address: str) -> str:
    import hashlib
    import ssl

    host, _, port = address.rpartition(":")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))).hexdigest()


def test_what_a_cluster_keeps_is_for_its_owner_alone(cluster: LocalCluster) -> None:
    """Directories and files, made by commands and by processes, whatever the umask of the terminal."""
    root = cluster.directory.path
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    open_to_others = [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if stat.S_IMODE(path.lstat().st_mode) & 0o077 and not path.name.endswith(".crt")
    ]
    assert open_to_others == []


def test_keys_are_in_nothing_that_is_said(cluster: LocalCluster) -> None:
    home = tls_home(cluster.directory)
    secrets = [
        line for key in home.glob("*.key") for line in key.read_text().splitlines() if re.fullmatch(r"[A-Za-z0-9+/=]{40,}", line)
    ]
    assert len(secrets) >= 12
    said = [cluster.directory.log_path(name).read_text() for name in (*cluster.shape.names(), "supervisor")]
    said.append(cluster.directory.file.read_text())
    for arguments in (["status", "--json"], ["doctor", "--json"], ["up", "--detach"]):
        done = command(*arguments, "--data-dir", str(cluster.directory.path))
        said += [done.stdout, done.stderr]
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said.append(line.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    text = "\n".join(said)
    assert not [secret for secret in secrets if secret in text]


def test_tls_is_turned_on_while_nothing_runs(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    shape = ["--storage", "1", "--replicas", "1", "--port", str(free_ports(6)), "--data-dir", str(directory), "--detach"]
    assert command("up", *shape).returncode == 0
    try:
        refused = command("up", "--tls", "--data-dir", str(directory), "--detach")
        assert "--tls: mgmtd, meta, storage-1 run without that: stop them first, with `fs3 down`" in refused.stderr
        assert command("down", "--data-dir", str(directory)).returncode == 0
        done = command("up", "--tls", "--data-dir", str(directory), "--detach")
        assert done.returncode == 0, done.stderr
        assert f"clients need FS3_TLS_CA={directory}/tls/ca.crt" in done.stdout.replace("\n", "")
    finally:
        command("down", "--data-dir", str(directory))


def test_listening_elsewhere_without_security_takes_a_word(tmp_path: Path) -> None:
    shape = ["--storage", "1", "--replicas", "1", "--port", str(free_ports(6)), "--host", "0.0.0.0", "--advertise", "127.0.0.1"]
    arguments = ["up", *shape, "--data-dir", str(tmp_path / "cluster"), "--detach"]
    refused = command(*arguments)
    assert refused.returncode == 1
    assert "is reached from other machines, and this cluster has no security" in refused.stderr
    done = command(*arguments, "--insecure")
    try:
        assert done.returncode == 0, done.stderr
    finally:
        command("down", "--data-dir", str(tmp_path / "cluster"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may make directories of others")
def test_a_directory_that_another_user_has_made_is_not_believed(tmp_path: Path) -> None:
    directory = tmp_path / "fs3-data"
    directory.mkdir()
    (directory / "cluster.json").write_text("{}")
    for path in (directory, directory / "cluster.json"):
        os.chown(path, 4242, 4242)
    for arguments in (["up", "--detach"], ["down"], ["status"]):
        done = command(*arguments, "--data-dir", str(directory))
        assert done.returncode == 1
        assert "belongs to another user (uid 4242), and is not believed" in done.stderr


def test_security_over_tls_with_certificates_of_users(space_guard: SpaceGuard, tmp_path: Path) -> None:
    """One is who the certificate names, another is refused; services go on, as their certificates name them."""
    with space_guard.lend("secured") as home, LocalCluster(home / "cluster", storage=1, replicas=1, targets=1, tls=True) as local:
        where, authority = str(local.directory.path), tls_home(local.directory)
        for name in ("ann", "mallory"):
            private_authority.issue(authority, tmp_path, name, [], organization="lab")
        added = command(
            "user", "add", "ann", "--uid", "1000", "--gid", "1000", "--certificate", "CN=ann,O=lab", "--cluster", where
        )
        assert added.returncode == 0, added.stderr
        done = command("security", "on", "--token-file", str(tmp_path / "admin"), where)
        assert done.returncode == 0, done.stderr
        admin = {"FS3_TLS_CA": ca_of(local), "FS3_TOKEN_FILE": str(tmp_path / "admin")}
        for arguments in (["mkdir", f"fs3://{local.address}/ann"], ["chown", "1000:1000", f"fs3://{local.address}/ann"]):
            done = command(*arguments, **admin)
            assert done.returncode == 0, done.stderr

        def open_as(name: str, **options: object) -> fsspec.AbstractFileSystem:
            files = {"tls_ca": ca_of(local), "tls_cert": str(tmp_path / f"{name}.crt"), "tls_key": str(tmp_path / f"{name}.key")}
            return fsspec.filesystem("fs3", cluster=local.address, skip_instance_cache=True, **files, **options)

        for transport in ("tcp", "grpc"):
            files = open_as("ann", transport=transport)
            files.pipe_file(f"/ann/{transport}", b"hers" * 100_000)
            assert files.cat_file(f"/ann/{transport}") == b"hers" * 100_000
            assert files.info(f"/ann/{transport}")["uid"] == 1000
        with pytest.raises(PermissionError):
            open_as("mallory").ls("/")
        with pytest.raises(PermissionError, match="give a token"):
            fsspec.filesystem("fs3", cluster=local.address, skip_instance_cache=True, tls_ca=ca_of(local)).ls("/")
        said = [local.directory.log_path(name).read_text() for name in local.shape.names()]
        token = (tmp_path / "admin").read_text().strip()
        assert not [line for line in said if token[-20:] in line]
        local.restart("storage-1")
        assert files.cat_file("/ann/tcp") == b"hers" * 100_000
