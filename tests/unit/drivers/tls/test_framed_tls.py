"""The framed wire over TLS: who is believed, what happens to those who are not, and what is passed on of those who are."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fs3.base.errors import FS3Error, Unreachable
from fs3.base.status import Code
from fs3.base.units import KIB, MIB, MILLISECOND, SECOND
from fs3.drivers.framed.server import ServerLimits
from fs3.drivers.framed.tcp import TcpTransport
from fs3.drivers.framed.tls import TlsTransport
from fs3.drivers.os.clock import OsClock
from fs3.drivers.tls.credentials import TlsCredentials, TlsFiles
from fs3.drivers.tls.private_authority import issue
from fs3.drivers.tls.socket import TlsSocket, format_subject
from fs3.ports.rpc import Call, Channel, FileRange, Listener
from fs3.sim.conformance.transport_harness import (
    PLAIN,
    PULL,
    PUSH,
    CallCollector,
    echo,
    eventually,
    failure,
    into,
    pattern,
    ping,
    replying,
    summing,
    sums,
)
from fs3.wire.endpoints import parse_host_port
from fs3.wire.frames import MAGIC_BYTES
from fs3.wire.pb import mgmtd_pb2, storage_pb2
from tests.space import SpaceGuard
from tests.tls_files import Authority

SECONDS = 5 * SECOND


@pytest.fixture(scope="module")
def authority(space_guard: SpaceGuard) -> Iterator[Authority]:
    with space_guard.lend("authority") as directory:
        yield Authority.make(directory)


@pytest.fixture(scope="module")
def server(authority: Authority) -> TlsCredentials:
    return authority.credentials("server", "127.0.0.1")


@asynccontextmanager
async def serving(credentials: TlsCredentials | None, bindings: Any = None, **limits: int) -> AsyncIterator[Listener]:
    bounds = ServerLimits(sweep_ns=10 * MILLISECOND, **limits)
    transport = TcpTransport(OsClock(), bounds=bounds)
    if credentials is not None:
        transport = TlsTransport(OsClock(), credentials, bounds=bounds)
    listener = await transport.serve(f"{transport.scheme}://127.0.0.1:0", bindings or {PLAIN: echo})
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def connected(endpoint: str, credentials: TlsCredentials | None) -> AsyncIterator[Channel]:
    transport = TcpTransport(OsClock()) if credentials is None else TlsTransport(OsClock(), credentials)
    channel = transport.connect(f"{transport.scheme}://{endpoint.partition('://')[2]}")
    try:
        yield channel
    finally:
        await channel.close()


async def refusal(endpoint: str, credentials: TlsCredentials | None) -> str:
    async with connected(endpoint, credentials) as channel:
        return str(await failure(channel.call(PLAIN, ping(1), timeout_ns=SECONDS)))


# --- who is believed -------------------------------------------------------------------------------------------------


async def test_a_server_of_another_authority_is_refused_and_told(
    server: TlsCredentials, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server) as listener:
        said = await refusal(listener.endpoint, Authority.make(tmp_path).client())
        assert f"{listener.endpoint}: its certificate is refused: it is of none of the authorities in tls_ca" in said
        await eventually(lambda: "it does not know the authority of our certificate" in caplog.text)


async def test_a_server_with_an_expired_certificate_is_refused(authority: Authority) -> None:
    async with serving(authority.credentials("late", "127.0.0.1", days=-1)) as listener:
        assert "certificate is refused: certificate has expired" in await refusal(listener.endpoint, authority.client())


async def test_a_server_with_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    async with serving(authority.credentials("elsewhere", "10.9.9.9", "elsewhere.example")) as listener:
        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in await refusal(
            listener.endpoint, authority.client()
        )


async def test_a_certificate_of_a_user_serves_nothing(authority: Authority) -> None:
    """One who may read cannot pretend to be a storage node."""
    async with serving(authority.credentials("mallory")) as listener:
        assert "its certificate is refused" in await refusal(listener.endpoint, authority.client())


async def test_a_client_with_a_certificate_of_another_authority_is_refused(
    authority: Authority, server: TlsCredentials, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Authority.make(tmp_path).issue("alice")
    stranger = TlsCredentials(TlsFiles(str(authority.directory / "ca.crt"), files.cert, files.key), OsClock())
    async with serving(server) as listener:
        said = await refusal(listener.endpoint, stranger)
        assert "it does not know the authority of our certificate" in said
        assert "its certificate is refused: it is of none of the authorities in tls_ca" in caplog.text
        assert await answers(listener.endpoint, authority.client())


async def answers(endpoint: str, credentials: TlsCredentials) -> bool:
    async with connected(endpoint, credentials) as channel:
        return bool((await channel.call(PLAIN, ping(7), timeout_ns=SECONDS)).message.seq == 7)


async def test_the_subject_of_a_client_is_passed_on(authority: Authority, server: TlsCredentials) -> None:
    seen: list[str | None] = []

    def tell(call: Call) -> None:
        seen.append(call.auth.subject)
        call.reply(mgmtd_pb2.HeartbeatReply())

    async with serving(server, {PLAIN: tell}) as listener:
        for credentials in (authority.credentials("alice", organization="a, b & c"), authority.client()):
            async with connected(listener.endpoint, credentials) as channel:
                await channel.call(PLAIN, ping(1))
    assert seen == ["CN=alice,O=a\\, b & c", ""]


def test_subjects_are_written_as_rfc_4514_says() -> None:
    subject = ((("countryName", "DE"),), (("commonName", "a+b"), ("userId", " x ")), (("oddName", "#1"),))
    assert format_subject({"subject": subject}) == "oddName=\\#1,CN=a\\+b+UID=\\ x\\ ,C=DE"
    assert format_subject({}) == ""


# --- TLS at one end only ---------------------------------------------------------------------------------------------


async def test_a_plain_client_is_told_that_the_port_speaks_tls(server: TlsCredentials, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(server) as listener:
        assert f"{listener.endpoint} speaks TLS only: this client has to be given tls_ca" in await refusal(
            listener.endpoint, None
        )
        assert "it does not speak TLS, which this port asks for" in caplog.text
        plain = TcpTransport(OsClock()).connect_blocking(listener.endpoint.replace("tls", "tcp"), SECONDS)
        assert plain is not None
        with pytest.raises(FS3Error, match="speaks TLS only"):
            await asyncio.to_thread(plain.call, PLAIN, ping(1), memoryview(bytearray()))


async def test_a_tls_client_of_a_plain_port_says_so(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(None) as listener:
        said = await refusal(listener.endpoint, authority.client())
        assert "it closed the connection during the TLS handshake; perhaps it does not speak TLS" in said
        assert "a TLS client: this port does not speak TLS" in caplog.text


async def test_something_else_that_answers_is_not_taken_for_tls(authority: Authority) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        assert "what answers does not speak TLS" in await refusal(f"tls://127.0.0.1:{port}", authority.client())


async def test_tls_1_2_is_refused_at_both_ends(authority: Authority, server: TlsCredentials) -> None:
    async with serving(server) as listener:
        old = ssl.create_default_context(cafile=str(authority.directory / "ca.crt"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await asyncio.open_connection(*parse_host_port(listener.endpoint, "tls"), ssl=old)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.files.cert, server.files.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0, ssl=context) as other:
        port = other.sockets[0].getsockname()[1]
        assert "during the TLS handshake" in await refusal(f"tls://127.0.0.1:{port}", authority.client())


# --- handshakes that never finish ------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_clients(endpoint: str, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that begin no handshake, or only that."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(stack.enter_context(socket.create_connection(parse_host_port(endpoint, "tls"))))
            found[-1].sendall(first)
            found[-1].setblocking(False)
        yield found


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_never_finishes_ends(
    authority: Authority, server: TlsCredentials, caplog: pytest.LogCaptureFixture, first: bytes
) -> None:
    async with (
        serving(server, tls_handshake_ns=400 * MILLISECOND) as listener,
        connected(listener.endpoint, authority.client()) as channel,
    ):
        await channel.call(PLAIN, ping(1))
        with silent_clients(listener.endpoint, 1, first) as (client,):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
        assert "its TLS handshake is not done after 0.4 s" in caplog.text
        await channel.call(PLAIN, ping(2))  # one that is done may rest


async def test_handshakes_that_never_finish_keep_nobody_out(authority: Authority, server: TlsCredentials) -> None:
    async with serving(server, tls_handshakes_max=4, connections_max=16) as listener:
        with silent_clients(listener.endpoint, 30) as clients:
            assert await answers(listener.endpoint, authority.client())
            ended = 0
            for client in clients:
                with contextlib.suppress(BlockingIOError):
                    ended += client.recv(1) == b""
            assert ended >= 26


# --- what travels ----------------------------------------------------------------------------------------------------


async def test_nothing_of_what_travels_is_readable(authority: Authority, server: TlsCredentials) -> None:
    secret = b"what nobody else should read".ljust(64 * KIB, b".")
    seen = bytearray()
    async with (
        serving(server, {PUSH: summing}) as listener,
        tampering(listener.endpoint, seen) as endpoint,
        connected(endpoint, authority.client()) as channel,
    ):
        await channel.call(PUSH, storage_pb2.UpdateRequest(), (secret,))
    assert len(seen) > len(secret)
    assert secret[:28] not in seen
    assert MAGIC_BYTES not in seen[:4]


async def test_a_changed_byte_breaks_the_connection(
    authority: Authority, server: TlsCredentials, caplog: pytest.LogCaptureFixture
) -> None:
    data = pattern(4 * MIB)
    async with (
        serving(server, {PULL: replying(data)}) as listener,
        tampering(listener.endpoint, None, 2 * MIB) as endpoint,
        connected(endpoint, authority.client()) as channel,
    ):
        target = bytearray(len(data))
        problem = await failure(channel.call(PULL, storage_pb2.ReadRequest(), into=into(target), timeout_ns=SECONDS))
        assert problem.code is Code.DISCONNECTED
        assert "bad record mac" in str(problem) or "decryption failed" in str(problem)
        assert target[:MIB] == data[:MIB]
        assert not any(target[3 * MIB :])


@asynccontextmanager
async def tampering(endpoint: str, seen: bytearray | None, flip_at: int = -1) -> AsyncIterator[str]:
    """Where a server is reached through something that reads along, or flips a bit of byte `flip_at` of the answers."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flip: int) -> None:
        at = 0
        with contextlib.suppress(ConnectionError):
            while data := bytearray(await reader.read(64 * KIB)):
                if seen is not None:
                    seen.extend(data)
                if at <= flip < at + len(data):
                    data[flip - at] ^= 1
                at += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*parse_host_port(endpoint, "tls"))
        await asyncio.gather(carry(reader, forth, -1), carry(back, writer, flip_at))

    between = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with between:
        yield f"tls://127.0.0.1:{between.sockets[0].getsockname()[1]}"


async def test_files_are_read_and_sent(authority: Authority, server: TlsCredentials, tmp_path: Path) -> None:
    data = pattern(5 * MIB + 3)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        parts = (b"head", FileRange(file.fileno(), 5, 3 * MIB), b"tail", FileRange(file.fileno(), 0, 7))
        async with serving(server, {PULL: replying(*parts)}) as listener:
            async with connected(listener.endpoint, authority.client()) as channel:
                reply = await channel.call(PULL, storage_pb2.ReadRequest())
                assert bytes(reply.payload or b"") == b"head" + data[5 : 5 + 3 * MIB] + b"tail" + data[:7]
            gone = replying(FileRange(file.fileno(), len(data) - 10, 20))
            async with serving(server, {PULL: gone}) as other, connected(other.endpoint, authority.client()) as channel:
                assert (await failure(channel.call(PULL, storage_pb2.ReadRequest()))).code is Code.DISCONNECTED


async def test_a_client_that_takes_nothing_holds_little_memory_of_the_server(
    authority: Authority, server: TlsCredentials
) -> None:
    """What is encrypted and waits counts as queued, and is a small piece; the rest stays where it lies."""
    data = pattern(16 * MIB)
    holder = CallCollector()
    async with serving(server, {PULL: holder}, send_stall_ns=100 * MILLISECOND) as listener:
        channel = await stopped_reader(listener.endpoint, authority.client())
        with channel:
            (call,) = await holder.wait_for_calls(1)
            call.reply(storage_pb2.ReadReply(), (data,))
            connection = next(iter(listener._connections))  # type: ignore[attr-defined]
            await eventually(lambda: connection.is_blocked)
            assert connection._tls.unsent_bytes <= 80 * KIB
            assert connection.queued_bytes > 8 * MIB
            await eventually(lambda: connection.is_closed)


async def stopped_reader(endpoint: str, credentials: TlsCredentials) -> Any:
    """A connection of a client that asks for something and reads nothing."""
    from fs3.wire.frames import FrameKind, pack

    transport = TlsTransport(OsClock(), credentials)
    sock = await transport.dial(endpoint)
    assert isinstance(sock, TlsSocket)
    data = storage_pb2.ReadRequest().SerializeToString()
    sock.send(pack(FrameKind.REQUEST.value, PULL.id, 1, len(data), 0, 0, 0) + data)
    sock.push()
    return contextlib.closing(sock)


async def test_blocking_connections(authority: Authority, server: TlsCredentials, tmp_path: Path) -> None:
    data = pattern(3 * MIB + 1)
    async with serving(server, {PULL: replying(data), PLAIN: echo}) as listener:

        def read() -> None:
            connection = TlsTransport(OsClock(), authority.client()).connect_blocking(listener.endpoint, SECONDS)
            assert connection is not None
            for _ in range(2):
                target = memoryview(bytearray(len(data)))
                assert connection.call(PULL, storage_pb2.ReadRequest(), target)[1] == len(data)
                assert target == data
                assert connection.call(PLAIN, ping(9), memoryview(bytearray()))[0].seq == 9
            connection.close()

        await asyncio.to_thread(read)
        stranger = TlsTransport(OsClock(), Authority.make(tmp_path).client())
        with pytest.raises(Unreachable, match="its certificate is refused"):
            await asyncio.to_thread(stranger.connect_blocking, listener.endpoint, SECONDS)


async def test_many_sizes_by_turns(authority: Authority, server: TlsCredentials) -> None:
    """Payloads that end before, at and behind records and reads, in both directions at once."""
    sizes = [size + extra for size in (0, 16 * KIB, 64 * KIB, 256 * KIB, MIB) for extra in (1, 2, 4096)]
    whole = pattern(2 * MIB)

    def answer(call: Call) -> None:
        call.reply(storage_pb2.ReadReply(), (memoryview(whole)[: call.request.offsets[0]],))

    async with (
        serving(server, {PULL: answer, PUSH: summing}) as listener,
        connected(listener.endpoint, authority.client()) as channel,
    ):
        for _ in range(3):
            reads = [channel.call(PULL, storage_pb2.ReadRequest(offsets=[size])) for size in sizes]
            writes = [channel.call(PUSH, storage_pb2.UpdateRequest(), (memoryview(whole)[:size],)) for size in sizes]
            for size, reply in zip(sizes, await asyncio.gather(*reads), strict=True):
                assert bytes(reply.payload or b"") == whole[:size]
            assert [sums(reply.message)[0] for reply in await asyncio.gather(*writes)] == sizes


# --- renewal ---------------------------------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_shown_to_new_connections(authority: Authority, tmp_path: Path) -> None:
    clock = SteppedClock()
    files = authority.issue("renewed", "127.0.0.1", days=-1, into=tmp_path)
    async with serving(TlsCredentials(files, clock)) as listener:
        assert "has expired" in await refusal(listener.endpoint, authority.client())
        issue(authority.directory, tmp_path, "renewed", ["127.0.0.1"])
        assert "has expired" in await refusal(listener.endpoint, authority.client())  # it was looked at a moment ago
        clock.time += SECOND
        assert await answers(listener.endpoint, authority.client())


async def test_half_of_a_renewal_changes_nothing(authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = SteppedClock()
    credentials = TlsCredentials(authority.issue("half", "127.0.0.1", into=tmp_path / "now"), clock)
    issue(authority.directory, tmp_path / "next", "half", ["127.0.0.1"])
    async with serving(credentials) as listener:
        for name, version in (("half.key", 1), ("half.crt", 2)):
            os.replace(tmp_path / "next" / name, tmp_path / "now" / name)
            clock.time += SECOND
            assert await answers(listener.endpoint, authority.client())
            assert credentials.version == version
        assert "the certificates stay as they were" in caplog.text


class SteppedClock(OsClock):
    """Goes on when it is told to."""

    time = 0

    def now(self) -> int:
        return self.time


# --- files that cannot be used ---------------------------------------------------------------------------------------


def test_a_key_that_others_may_read_is_refused(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("open", "127.0.0.1", into=tmp_path)
    assert (tmp_path / "open.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "open.key").chmod(0o644)
    with pytest.raises(FS3Error, match=r"everybody on this machine may read it \(mode 0644\)"):
        TlsCredentials(files, OsClock())


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("named", "127.0.0.1", into=tmp_path)
    other = authority.issue("other", "127.0.0.1", into=tmp_path)
    (tmp_path / "empty").touch(0o600)
    for ca, cert, key, said in (
        ("/nowhere", "", "", "/nowhere"),
        (str(tmp_path / "empty"), "", "", "no PEM file of certificates"),
        (files.ca, files.cert, "/nowhere", "/nowhere"),
        (files.ca, files.cert, other.key, "no certificate with the key in"),
        (files.ca, str(tmp_path / "empty"), files.key, "no certificate with the key in"),
    ):
        with pytest.raises(FS3Error, match=said) as caught:
            TlsCredentials(TlsFiles(ca, cert, key), OsClock())
        assert caught.value.code is Code.CONFIG
    with pytest.raises(FS3Error, match="belong together"):
        TlsFiles(files.ca, files.cert)
    with pytest.raises(FS3Error, match="whom should this process believe"):
        TlsFiles("", files.cert, files.key)


async def test_a_server_needs_a_certificate(authority: Authority) -> None:
    with pytest.raises(FS3Error, match="tls_cert and tls_key"):
        await TlsTransport(OsClock(), authority.client()).serve("tls://127.0.0.1:0", {PLAIN: echo})
