"""Unix sockets: files that are left over, permissions, paths."""

import os
import socket
import stat
from pathlib import Path

import pytest

from fs3.base.errors import Exists, InvalidArgument, Unreachable
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.os.clock import OsClock
from fs3.sim.conformance.transport_harness import PLAIN, CallCollector, echo, ping
from fs3.wire.pb import mgmtd_pb2


async def test_only_the_owner_may_connect_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for mode in (0o600, 0o666):
        listener = await LocalTransport(OsClock(), **({} if mode == 0o600 else {"mode": mode})).serve(f"local://{path}", {})
        assert stat.S_IMODE(path.stat().st_mode) == mode
        await listener.close()
        assert not path.exists()


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
    with pytest.raises(InvalidArgument, match=r"cannot listen at local://.*: No such file or directory"):
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
