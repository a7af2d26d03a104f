"""A cluster of real processes gets security while it is used: who may log in, what becomes of clients, keys and revocations."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

import fs3
from fs3.api.fsspec.filesystem import FS3FileSystem
from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.cluster import serve_command
from fs3.cli.local import LocalCluster
from tests.processes.conftest import Rehearse
from tests.processes.machine_lab import wait_until
from tests.space import SpaceGuard

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    """Two managers, three storage processes; open at first."""
    with space_guard.lend("security") as home, LocalCluster(home / "cluster", targets=1, mgmtds=2) as local:
        yield local


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FS3_TOKEN", "FS3_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, token_file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command, as another program runs it."""
    environment = {**os.environ, "FS3_TOKEN_FILE": str(token_file)} if token_file else None
    command = [sys.executable, "-m", "fs3.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def operate(cluster: LocalCluster, *arguments: str) -> str:
    """A command of the owner of the cluster's directory; what it says."""
    where = [str(cluster.directory.path)] if arguments[0] == "security" else ["--cluster", str(cluster.directory.path)]
    done = run(*arguments, *where)
    assert done.returncode == 0, done.stderr
    return done.stdout


def open_as(cluster: LocalCluster, token: str | None = None, **options: object) -> FS3FileSystem:
    """The file system of a user, with connections of its own."""
    given = {"token": token} if token else {}
    return fsspec.filesystem("fs3", cluster=",".join(cluster.addresses), skip_instance_cache=True, **given, **options)


def refusal_of(action: Callable[[], object]) -> str:
    """What it is refused with."""
    with pytest.raises(PermissionError) as refused:
        action()
    return str(refused.value)


@pytest.fixture(scope="module")
def ann(cluster: LocalCluster) -> str:
    """The token of a user who is no administrator."""
    operate(cluster, "user", "add", "ann", "--uid", "1000", "--gid", "1000")
    return operate(cluster, "user", "token", "ann", "--name", "laptop").strip()


def status_of(cluster: LocalCluster) -> dict[str, object]:
    said = json.loads(operate(cluster, "security", "status", "--json"))
    assert isinstance(said, dict)
    return said


def test_it_is_turned_on_under_load_and_clients_with_tokens_see_nothing(
    cluster: LocalCluster, ann: str, under_load: Rehearse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file = tmp_path / "root.token"
    operate(cluster, "user", "add", "load", "--uid", "0", "--gid", "0", "--admin")
    operate(cluster, "user", "token", "load", "--file", str(token_file))
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    monkeypatch.setenv("FS3_TOKEN_FILE", str(token_file))
    stranger = open_as(cluster, token_file=str(token_file))
    stranger.ls("/")
    with under_load(cluster) as load:
        load.wait_progress("write", 20, 30)
        said = operate(cluster, "security", "on", "--token-file", str(tmp_path / "admin.token"))
        assert "security is on" in said
        load.wait_progress("write", 20, 30)
        operate(cluster, "security", "rotate")
        operate(cluster, "security", "rotate", "--at-once")
        load.wait_progress("write", 20, 30)
        operate(cluster, "security", "revoke", "load")
        load.wait_progress("write", 20, 30)
        cluster.kill("mgmtd")
        load.wait_progress("write", 50, 60)
        cluster.start("mgmtd")
        cluster.restart("storage-2")
        load.wait_progress("write", 50, 60)
    assert status_of(cluster)["on"] is True


def test_who_proves_nothing_may_do_nothing_and_is_told_what_to_do(cluster: LocalCluster, ann: str) -> None:
    assert "give a token with FS3_TOKEN" in refusal_of(lambda: open_as(cluster).ls("/"))
    done = run("status", cluster.address)
    assert done.returncode == 1
    assert "FS3_TOKEN" in done.stderr
    open_as(cluster, ann).ls("/")


def test_tokens_that_are_wrong_say_no_more_than_that(cluster: LocalCluster, ann: str) -> None:
    wrong = ann[:-1] + ("0" if ann[-1] != "0" else "1")
    unknown = f"{ann[:14]}ffffffff{ann[22:]}"
    said = {refusal_of(lambda token=token: open_as(cluster, token).ls("/")) for token in (wrong, unknown)}  # type: ignore[misc]
    assert len(said) == 1
    assert not any(wrong in text or unknown in text for text in said)


def test_a_token_of_another_cluster_is_not_even_tried(cluster: LocalCluster, ann: str) -> None:
    with pytest.raises(FS3Error, match="the token is of cluster 00000000") as refused:
        open_as(cluster, f"fs3u-00000000{ann[13:]}").ls("/")
    assert refused.value.code is Code.WRONG_CLUSTER


def test_expired_and_revoked_tokens_say_so_to_their_holders(cluster: LocalCluster) -> None:
    operate(cluster, "user", "add", "bob", "--uid", "1001")
    short = operate(cluster, "user", "token", "bob", "--lifetime", "1ms").strip()
    assert "has expired" in refusal_of(lambda: open_as(cluster, short).ls("/"))
    token = operate(cluster, "user", "token", "bob").strip()
    files = open_as(cluster, token)
    files.ls("/")
    operate(cluster, "user", "token", "bob", "--revoke", token.split("-")[2])
    assert "was revoked" in refusal_of(lambda: open_as(cluster, token).ls("/"))
    wait_until(lambda: is_refused(files), lambda: "the client of a revoked token is served", 20)


def is_refused(files: FS3FileSystem) -> bool:
    try:
        files.ls("/")
    except PermissionError:
        return True
    return False


def test_a_user_that_is_removed_has_nothing_left(cluster: LocalCluster) -> None:
    operate(cluster, "user", "add", "eve", "--uid", "1002")
    token = operate(cluster, "user", "token", "eve").strip()
    files = open_as(cluster, token)
    files.ls("/")
    operate(cluster, "user", "rm", "eve")
    wait_until(lambda: is_refused(files), lambda: "a removed user is served", 20)
    assert "eve" not in operate(cluster, "user", "list", "--json")


def test_users_administer_nothing(cluster: LocalCluster, ann: str, tmp_path: Path) -> None:
    file = tmp_path / "ann.token"
    file.touch(0o600)
    file.write_text(ann)
    for arguments in (
        ("security", "rotate", cluster.address),
        ("security", "off", "--yes", cluster.address),
        ("user", "list", "--cluster", cluster.address),
        ("user", "add", "x", "--uid", "0", "--admin", "--cluster", cluster.address),
        ("user", "token", "load", "--cluster", cluster.address),
        ("config", "set", "storage.read_only=true", "--cluster", cluster.address),
    ):
        done = run(*arguments, token_file=file)
        assert done.returncode == 1, arguments
        assert "not for this caller" in done.stderr, done.stderr
    assert run("security", "status", cluster.address, token_file=file).returncode == 0


def test_a_token_file_that_others_can_read_is_refused(cluster: LocalCluster, ann: str, tmp_path: Path) -> None:
    file = tmp_path / "ann.token"
    file.write_text(ann)
    file.chmod(0o644)
    assert "others can read the token (mode 644)" in refusal_of(lambda: open_as(cluster, token_file=str(file)).ls("/"))
    file.chmod(0o600)
    open_as(cluster, token_file=str(file)).ls("/")


def test_tokens_show_nowhere(cluster: LocalCluster, ann: str) -> None:
    files = open_as(cluster, ann)
    secret = ann.rpartition("-")[2]
    for text in (repr(files), str(files.storage_options), files.to_json(), repr(pickle.dumps(files)), repr(vars(files))):
        assert secret not in text
    logs = "".join(path.read_text() for path in (cluster.directory.path / "log").iterdir())
    audits = list(cluster.directory.path.glob("mgmtd*/audit.log*"))
    assert audits
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in audits)
    assert secret not in logs + "".join(path.read_text() for path in audits)


def test_workers_prove_themselves_by_what_does_not_travel(cluster: LocalCluster, ann: str) -> None:
    files = open_as(cluster, ann)
    files.ls("/")
    code = "import pickle, sys; pickle.load(sys.stdin.buffer).ls('/')"
    command = [sys.executable, "-c", code]
    alone = subprocess.run(command, input=pickle.dumps(files), capture_output=True, timeout=60)
    assert alone.returncode != 0
    assert b"tokens are in no pickle" in alone.stderr
    told = {**os.environ, "FS3_TOKEN": ann}
    assert subprocess.run(command, input=pickle.dumps(files), capture_output=True, timeout=60, env=told).returncode == 0
    child = os.fork()
    if not child:
        try:
            pickle.loads(pickle.dumps(files)).ls("/")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("transport", ["tcp", "local", "grpc"])
def test_every_wire_and_face_takes_a_token(cluster: LocalCluster, ann: str, transport: str) -> None:
    files = open_as(cluster, ann, transport=transport)
    files.ls("/")
    with fs3.BlockingKVCache(
        cluster.url, namespace=f"pages-{transport}", page_bytes=4096, token=ann, transport=transport
    ) as pages:
        assert pages.name == f"pages-{transport}"


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="nothing can be mounted here")
def test_a_mount_has_the_rights_of_its_token(cluster: LocalCluster, ann: str, tmp_path: Path) -> None:
    file, point = tmp_path / "ann.token", tmp_path / "point"
    point.mkdir()
    file.touch(0o600)
    file.write_text(ann)
    alone = run("mount", cluster.url, str(point))
    assert alone.returncode == 1
    assert "the cluster asks who calls" in alone.stderr
    done = run("mount", cluster.url, str(point), "--token-file", str(file))
    assert done.returncode == 0, done.stderr
    try:
        assert sorted(os.listdir(point)) == sorted(
            path.rpartition("/")[2] for path in open_as(cluster, ann).ls("/", detail=False)
        )
    finally:
        assert run("umount", str(point)).returncode == 0
    file.chmod(0o644)
    assert "others can read the token" in run("mount", cluster.url, str(point), "--token-file", str(file)).stderr


def test_what_happened_is_in_the_audit_log(cluster: LocalCluster, ann: str, tmp_path: Path) -> None:
    file = tmp_path / "ann.token"
    file.touch(0o600)
    file.write_text(ann)
    run("security", "rotate", cluster.address, token_file=file)
    refusal_of(lambda: open_as(cluster, f"{ann[:14]}ffffffff{ann[22:]}").ls("/"))
    lines = [
        json.loads(line) for path in cluster.directory.path.glob("mgmtd*/audit.log") for line in path.read_text().splitlines()
    ]
    assert all({"time", "what", "who", "from", "result"} <= line.keys() for line in lines)
    told = {(line["what"], line["result"]) for line in lines}
    assert {("login", "ok"), ("login", "NOT_ADMITTED"), ("PutUser", "ok"), ("RevokeUser", "ok"), ("SetSecurity", "ok")} <= told
    assert ("RotateKeys", "PERMISSION") in told
    assert any(line["what"] == "login" and line["who"] == "ann" and line["by"].startswith("token ") for line in lines)


def test_everything_is_as_it_was_after_a_restart_of_all(cluster: LocalCluster, ann: str) -> None:
    before = status_of(cluster)
    cluster.stop()
    cluster.start()
    after = status_of(cluster)
    assert (after["on"], after["users"]) == (before["on"], before["users"])
    assert isinstance(after["cluster_ms"], int)
    assert isinstance(before["cluster_ms"], int)
    assert after["cluster_ms"] >= before["cluster_ms"]
    open_as(cluster, ann).ls("/")
    assert "give a token" in refusal_of(lambda: open_as(cluster).ls("/"))


def test_a_node_that_lost_its_directory_is_admitted_by_the_owner_of_the_cluster(cluster: LocalCluster, ann: str) -> None:
    key = cluster.directory.path / "storage-3" / "node.key"
    before = key.read_bytes()
    cluster.stop("storage-3")
    cluster.wipe("storage-3")
    cluster.start("storage-3")
    cluster.wait_healthy(60)
    assert key.read_bytes() != before
    # By itself a node says nothing of a new key any more.
    cluster.stop("storage-3")
    key.write_bytes(before)
    with pytest.raises(FS3Error, match="not known here, or is not the right one"):
        spawn_alone(cluster, "storage-3")
    operate(cluster, "security", "admit", "storage-3", "--key-file", str(key))
    cluster.start("storage-3")
    cluster.wait_healthy(60)


def spawn_alone(cluster: LocalCluster, name: str) -> None:
    """Start a process as a machine's init does, which admits none; FS3Error with what it says when it ends."""
    command = [sys.executable, "-m", "fs3.cli.main", *serve_command(cluster.shape, cluster.directory, name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    raise FS3Error(Code.UNAVAILABLE, done.stderr)


def test_it_is_turned_off_by_who_means_it(cluster: LocalCluster) -> None:
    done = run("security", "off", str(cluster.directory.path))
    assert done.returncode == 1
    assert "--yes" in done.stderr
    operate(cluster, "security", "off", "--yes")
    wait_until(lambda: not is_refused(open_as(cluster)), lambda: "strangers are refused", 20)
