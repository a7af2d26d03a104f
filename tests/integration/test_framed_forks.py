"""Fork, as data loaders do it: the child leaves the parent's channel alone and makes its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, sys

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.framed.local import LocalTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.framed.tcp import TcpTransport
from fs3.sim.conformance.transport_harness import PLAIN, PULL, echo, into, pattern, ping, replying
from fs3.wire.pb import storage_pb2

DATA = pattern(3 << 20)
endpoint = sys.argv[1]
make = TcpTransport if endpoint.startswith("tcp") else LocalTransport


async def child(channel, endpoint, copies):
    for copy in copies:  # of the parent's sockets, whose numbers may have been given to others of ours meanwhile
        try:
            assert os.fstat(copy[0]).st_ino != copy[1], "a socket of the parent lives on in the child"
        except OSError:
            pass
    try:
        await channel.call(PLAIN, ping(1))
    except FS3Error as problem:
        assert problem.code is Code.UNSUPPORTED, problem
        assert "must make its own" in str(problem)
    else:
        raise AssertionError("the parent's channel answered")
    await channel.close()
    own = make(OsClock()).connect(endpoint)
    for seq in range(50):
        assert (await own.call(PLAIN, ping(seq))).message.seq == seq
    buffer = bytearray(len(DATA))
    await own.call(PULL, storage_pb2.ReadRequest(), into=into(buffer))
    assert buffer == DATA
    await own.close()


async def parent():
    calls = []
    listener = await make(OsClock()).serve(endpoint, {PLAIN: lambda call: (calls.append(call), echo(call)), PULL: replying(DATA)})
    channel = make(OsClock()).connect(listener.endpoint)
    await channel.call(PLAIN, ping(0))
    buffer = bytearray(len(DATA))
    under_way = channel.start(PULL, storage_pb2.ReadRequest(), into=into(buffer))
    await asyncio.sleep(0)
    sockets = [channel._connection._socket, listener._socket, *(one._socket for one in listener._connections)]
    copies = [(sock.fileno(), os.fstat(sock.fileno()).st_ino) for sock in sockets]
    assert len(copies) == 3
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(in_child(channel, listener.endpoint, copies))
        pids.append(pid)
    await under_way
    assert buffer == DATA
    # The parent's server answers the children meanwhile, and its own channel goes on.
    while pids:
        assert (await channel.call(PLAIN, ping(7))).message.seq == 7
        pid, status = os.waitpid(pids[0], os.WNOHANG)
        if pid:
            assert status == 0, status
            pids.pop(0)
    await channel.close()
    await listener.close()
    assert len({call.peer for call in calls}) == 4


def in_child(channel, endpoint, copies):
    try:
        asyncio.events._set_running_loop(None)  # we are inside the copy of a running loop
        asyncio.run(child(channel, endpoint, copies))
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


if sys.argv[2] == "uvloop":
    import uvloop

    uvloop.run(parent())
else:
    asyncio.run(parent())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["tcp", "local"])
def test_children_make_their_own_connections(tmp_path: object, scheme: str, loop: str) -> None:
    endpoint = "tcp://127.0.0.1:0" if scheme == "tcp" else f"local://{tmp_path}/s"
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SCRIPT, endpoint, loop],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
