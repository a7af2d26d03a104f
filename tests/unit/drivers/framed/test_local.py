"""Unix sockets: files that are left over, permissions, paths."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from fs3.base.errors import Exists, InvalidArgument, NoPermission, Unreachable
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.transport_harness import PLAIN, CallCollector, echo, failure, ping
from fs3.wire.pb import mgmtd_pb2


async def test_only_the_owner_may_connect_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for mode in (0o600, 0o666):
        listener = await LocalTransport(OsClock(), **({} if mode == 0o600 else {"mode": mode})).serve(f"local://{path}", {})
        assert stat.S_IMODE(path.stat().st_mode) == mode
        await listener.close()
        assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_its_file_never_admits_others_before_it_should(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode is there when the file is: what the umask leaves of it, and never more than was asked for."""
    seen: list[int] = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: object) -> None:
            bind(self, address)  # type: ignore[arg-type]
            seen.append(stat.S_IMODE(os.stat(str(address)).st_mode))

    monkeypatch.setattr("fs3.drivers.framed.local.socket.socket", Watched)
    before = os.umask(0)
    try:
        listener = await LocalTransport(OsClock(), mode=mode).serve(f"local://{tmp_path}/s", {})
    finally:
        os.umask(before)
    assert seen == [mode]
    await listener.close()


async def test_directories_that_others_may_change_are_refused(tmp_path: Path) -> None:
    transport = LocalTransport(OsClock())
    shared = tmp_path / "shared"
    shared.mkdir()
    for mode in (0o777, 0o770, 0o702):
        shared.chmod(mode)
        with pytest.raises(NoPermission, match="other users may change what is in it"):
            await transport.serve(f"local://{shared}/s", {})
    shared.chmod(0o1777)  # as /tmp: names of others cannot be taken away
    await (await transport.serve(f"local://{shared}/s", {})).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may take the place of others")
async def test_a_directory_of_another_user_is_refused_and_so_is_another_user_who_listens(tmp_path: Path) -> None:
    transport = LocalTransport(OsClock())
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 4242, 4242)
    with pytest.raises(NoPermission, match=r"belongs to another user \(uid 4242\)"):
        await transport.serve(f"local://{theirs}/s", {})
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(NoPermission, match=r"belongs to another user \(uid 4242\)"):
        await transport.serve(f"local://{tmp_path}/link/s", {})

    pid = os.fork()
    if not pid:  # the other user, who listens until it is killed
        os.chdir(theirs)
        os.setresuid(4242, 4242, 4242)
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind("new")
            stranger.listen()
            os.rename("new", "s")  # it is seen once it listens
            signal.pause()
    try:
        while not (theirs / "s").exists():
            os.sched_yield()
        channel = transport.connect(f"local://{theirs}/s")
        said = str(await failure(channel.call(PLAIN, ping(1), timeout_ns=5_000_000_000)))
        assert "another user (uid 4242) listens there, and is not believed" in said
        await channel.close()
        with pytest.raises(Unreachable, match="is not believed"):
            transport.connect_blocking(f"local://{theirs}/s", 1_000_000_000)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


async def test_a_socket_file_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    transport = LocalTransport(OsClock())
    listener = await transport.serve(f"local://{path}", {PLAIN: echo})
    channel = transport.connect(listener.endpoint)
    assert (await channel.call(PLAIN, ping(3))).message.seq == 3
    await channel.close()
    await listener.close()


async def test_a_living_servers_file_is_left_alone(tmp_path: Path) -> None:
    transport = LocalTransport(OsClock())
    listener = await transport.serve(f"local://{tmp_path}/s", {PLAIN: echo})
    with pytest.raises(Exists, match="is taken: another server listens there"):
        await transport.serve(listener.endpoint, {})
    channel = transport.connect(listener.endpoint)
    assert (await channel.call(PLAIN, ping(3))).message.seq == 3
    await channel.close()
    await listener.close()


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(Exists, match="a file of another kind"):
        await LocalTransport(OsClock()).serve(f"local://{path}", {})
    assert path.read_text() == "data"


async def test_a_listener_removes_only_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    transport = LocalTransport(OsClock())
    listener = await transport.serve(f"local://{path}", {})
    path.unlink()
    path.write_text("of somebody else")
    await listener.close()
    assert path.read_text() == "of somebody else"


async def test_paths_are_checked(tmp_path: Path) -> None:
    transport = LocalTransport(OsClock())
    with pytest.raises(InvalidArgument, match="at most 107 bytes"):
        transport.connect("local:///" + "x" * 200)
    with pytest.raises(InvalidArgument, match="/absolute/path"):
        await transport.serve("local://relative", {})
    with pytest.raises(InvalidArgument, match=r"cannot listen at local://.*: there is no such directory"):
        await transport.serve(f"local://{tmp_path}/absent/s", {})


async def test_nobody_listens_behind_a_missing_file(tmp_path: Path) -> None:
    channel = LocalTransport(OsClock()).connect(f"local://{tmp_path}/absent")
    with pytest.raises(Unreachable, match="nobody listens at local://"):
        await channel.call(PLAIN, ping(1))
    await channel.close()


async def test_peers_are_named_by_their_process(tmp_path: Path) -> None:
    transport = LocalTransport(OsClock())
    holder = CallCollector()
    listener = await transport.serve(f"local://{tmp_path}/s", {PLAIN: holder})
    channel = transport.connect(listener.endpoint)
    future = channel.start(PLAIN, ping(1))
    (call,) = await holder.wait_for_calls(1)
    assert call.peer == f"local:pid={os.getpid()},uid={os.getuid()}"
    call.reply(mgmtd_pb2.HeartbeatReply())
    await future
    await channel.close()
    await listener.close()
