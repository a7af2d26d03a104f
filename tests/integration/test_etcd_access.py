"""An etcd cluster that is reached by TLS, and tells users apart: what is needed, what is refused, and that it is said."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.cli.stores import open_store, parse_store
from fs3.drill.etcd_cluster import EtcdCluster, find_etcd
from fs3.drivers.etcd.access import EtcdAccess
from fs3.drivers.etcd.client import EtcdClient
from fs3.drivers.etcd.state import find_state
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.kv import append_count, get, puts
from tests.space import SpaceGuard

pytestmark = pytest.mark.processes

CLOCK = OsClock()
USER, PASSWORD = "fs3", "a secret & more"
AUTH = "/etcdserverpb.Auth/"


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, capture_output=True, check=True, timeout=60)


def make_certificates(directory: Path) -> None:
    """An authority, and a certificate of it for 127.0.0.1 and for clients."""
    directory.mkdir(parents=True)
    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl(directory, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    openssl(directory, "req", *key, "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=member")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl(directory, "x509", "-req", "-in", "cert.csr", "-out", "cert.pem", *signing)


@pytest.fixture(scope="module")
def secured(space_guard: SpaceGuard) -> Iterator[tuple[EtcdCluster, Path]]:
    """One member that wants certificates, and where these are."""
    if find_etcd() is None or shutil.which("openssl") is None:
        pytest.skip("no etcd or no openssl on PATH")
    with space_guard.lend("etcd-tls") as directory:
        certificates = directory / "certificates"
        make_certificates(certificates)
        make_certificates(directory / "others")
        with EtcdCluster(directory / "etcd", 1, certificates=certificates) as cluster:
            yield cluster, certificates


@asynccontextmanager
async def opened(url: str) -> Any:
    kv = await open_store(parse_store(url), "meta", CLOCK, on_given_up=lambda why: None)
    try:
        yield kv
    finally:
        await kv.close()


def url_of(etcd: EtcdCluster, certificates: Path, name: str) -> str:
    files = f"ca={certificates}/ca.pem&cert={certificates}/cert.pem&key={certificates}/key.pem"
    return f"etcd://{etcd.endpoints[0]}/{name}?{files}"


async def test_by_tls_a_store_is_as_any_other(secured: tuple[EtcdCluster, Path]) -> None:
    etcd, certificates = secured
    async with opened(url_of(etcd, certificates, "tls")) as kv:
        assert [await kv.transact(append_count(b"n")) for _ in range(3)] == [0, 1, 2]
        assert await kv.read(get(b"n")) == b"3"


@pytest.mark.parametrize("wrong", ["plain", "without a certificate", "of another authority"])
async def test_without_the_right_certificates_nothing_is_reached_and_that_is_said(
    secured: tuple[EtcdCluster, Path], wrong: str
) -> None:
    etcd, certificates = secured
    others = certificates.parent / "others"
    access = {
        "plain": EtcdAccess(),
        "without a certificate": EtcdAccess(ca=f"{certificates}/ca.pem"),
        "of another authority": EtcdAccess(ca=f"{others}/ca.pem", cert=f"{others}/cert.pem", key=f"{others}/key.pem"),
    }[wrong]
    client = EtcdClient(etcd.endpoints, CLOCK, access)
    state = await find_state(client)
    assert any(etcd.endpoints[0] in problem for problem in state.problems)
    await client.close()


async def test_a_file_that_is_missing_is_named(secured: tuple[EtcdCluster, Path], tmp_path: Path) -> None:
    etcd, _ = secured
    for parameters in (f"ca={tmp_path}/absent", f"user=x&password_file={tmp_path}/absent"):
        with pytest.raises(FS3Error, match="absent") as refused:
            async with opened(f"etcd://{etcd.endpoints[0]}/x?{parameters}"):
                pass
        assert refused.value.code is Code.CONFIG


# --- users -------------------------------------------------------------------------------------------------------------


def fields(*values: bytes) -> bytes:
    """A message with these fields, of less than 128 bytes each."""
    return b"".join(bytes(((number << 3) | 2, len(value))) + value for number, value in enumerate(values, 1))


@pytest.fixture(scope="module")
def guarded(space_guard: SpaceGuard) -> Iterator[EtcdCluster]:
    """Three members without users yet."""
    if find_etcd() is None:
        pytest.skip("no etcd on PATH")
    with space_guard.lend("etcd-users") as directory, EtcdCluster(directory) as cluster:
        yield cluster


async def test_users(guarded: EtcdCluster, tmp_path: Path) -> None:
    """In one test, since users are told apart from one moment on."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    members = ",".join(guarded.endpoints)
    url = f"etcd://{members}/guarded?user={USER}&password_file={secret}"
    with pytest.raises(FS3Error, match="etcdctl auth enable") as refused:
        async with opened(url):
            pass
    assert refused.value.code is Code.ACCESS

    plain = EtcdClient(guarded.endpoints, CLOCK)

    async def ask(verb: str, *values: bytes) -> None:
        await plain.ask(AUTH + verb, fields(*values), CLOCK.now() + 10 * SECOND)

    for name, password in ((b"root", b"r"), (USER.encode(), PASSWORD.encode())):
        await ask("UserAdd", name, password)
    await ask("RoleAdd", b"fs3-rows")
    permission = b"\x08\x02" + b"\x12\x08guarded/" + b"\x1a\x08guarded0"  # to read and write what begins so
    await ask("RoleGrantPermission", b"fs3-rows", permission)
    await ask("UserGrantRole", USER.encode(), b"fs3-rows")
    await ask("UserGrantRole", b"root", b"root")
    await ask("AuthEnable")
    await plain.close()

    async with opened(url) as kv:
        assert await kv.transact(append_count(b"n")) == 0
        kv._client._token = "not a token"  # as one whose time is over
        assert await kv.transact(append_count(b"n")) == 1
        kv._client._token = "nor this"
        assert await kv.read(get(b"n")) == b"2"
        async with opened(url) as other:
            await other.transact(puts({b"seen": b"by the watch"}))
        assert await kv.read(get(b"seen")) == b"by the watch"
        assert kv.problem == ""

    for wrong, told in (
        (f"etcd://{members}/guarded", "name one, with"),
        (url.replace("guarded?", "elsewhere?"), "permission denied"),
    ):
        with pytest.raises(FS3Error, match=told) as refused:
            async with opened(wrong):
                pass
        assert refused.value.code is Code.ACCESS
    secret.write_text("something else\n")
    with pytest.raises(FS3Error, match="authentication failed") as refused:
        async with opened(url):
            pass
    assert refused.value.code is Code.ACCESS
