"""A stream socket that speaks TLS, with those methods of `socket.socket` that the framed wire uses.

OpenSSL works on two memory buffers and never touches the socket: one system call brings many records, and takes many away.
(Kernel TLS would need OpenSSL to own the socket; see docs/security.md.)

What was received and not asked for yet stays here, and no event of the socket announces it (`has_pending`). What was encrypted
and did not fit into the socket stays here as well (`unsent_bytes`), at most `_STEP` bytes and their frame: `push` sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fs3.base.units import KIB
from fs3.wire.frames import MAGIC_BYTES

_STEP = 64 * KIB
"""Encrypted or received in one go. OpenSSL's buffers keep the size they once had."""
_JOINED_MAX = 4 * KIB
"""Buffers up to this size are joined with their neighbours: a record for each costs more than the copy."""
_TLS_FIRST_BYTE = b"\x16"
_scratch = threading.local()


class TlsError(OSError):
    """TLS does not hold: `strerror` says why, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)

    def __str__(self) -> str:
        return str(self.strerror)


class PlainPeer(TlsError):
    """The other end speaks the framed wire without TLS."""


class TlsSocket:
    """Owns a connected socket. Belongs to one thread at a time, like the socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """`server_name`: whom to expect at the other end; None: this is the server. The first calls do the handshake."""
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name)
        self._is_server = server_name is None
        self._is_blocking = sock.gettimeout() != 0
        self._unsent = memoryview(b"")
        self._failure: TlsError | None = None
        self._is_ended = False  # the other end sends nothing more
        self._is_drained = False  # the last receive has emptied the socket
        self._is_recognized = not self._is_server  # the first byte was one of TLS
        self.is_ready = False
        """The handshake is done."""
        self.on_ready: Callable[[], None] | None = None
        """Called once it is."""

    # --- as a socket ---------------------------------------------------------------------------------------------------

    @property
    def family(self) -> socket.AddressFamily:
        """Of the socket."""
        return self._socket.family

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def setsockopt(self, *arguments: Any) -> None:
        """Of the socket."""
        self._socket.setsockopt(*arguments)

    def getsockopt(self, *arguments: Any) -> Any:
        """Of the socket."""
        return self._socket.getsockopt(*arguments)

    def shutdown(self, how: int) -> None:
        """Of the socket, from any thread. There is no good-bye of TLS: frames have lengths, so what was cut short is known."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def detach(self) -> int:
        """The descriptor, which is the caller's."""
        return self._socket.detach()

    # --- receiving -----------------------------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Something was received that was not asked for yet; perhaps only part of a record."""
        return self._incoming.pending > 0 or self._tls.pending() > 0

    @property
    def pending_bytes(self) -> int:
        """Received and not asked for, with what TLS adds."""
        return self._incoming.pending + self._tls.pending()

    def recv_into(self, view: memoryview, wanted: int = 0) -> int:
        """As of a socket; but a non-blocking one fills `view` as far as what has arrived reaches: less than was wanted means that
        nothing more is here. Raises BlockingIOError, TlsError, and OSError of the socket."""
        if not self.is_ready:
            self._shake_hands()
        wanted = wanted or len(view)
        done = 0
        self._is_drained = False
        while done < wanted and self._failure is None:
            if not self._incoming.pending and not self._tls.pending():  # cheaper to ask than to have it say so by an exception
                if done and (self._is_drained or self._is_blocking):
                    break
                try:
                    self._fill()
                except BlockingIOError:
                    break
            try:
                got: int = self._tls.read(wanted - done, view[done:])  # type: ignore[assignment]
            except ssl.SSLWantReadError:
                if done and self._is_blocking:
                    break
                try:
                    self._fill()
                except BlockingIOError:
                    break
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                got = 0
            except ssl.SSLError as problem:
                self._failure = self._failure_of(problem)
                break
            if not got:
                self._is_ended = True
                break
            done += got
        if self._outgoing.pending:  # keys were changed
            with contextlib.suppress(BlockingIOError):
                self.push()
        if not done and self._failure is not None:
            raise self._failure
        if done or self._is_ended:
            return done
        raise BlockingIOError

    def recvmsg_into(self, buffers: Sequence[memoryview]) -> tuple[int]:
        """As of a socket, for what is used of it."""
        done = 0
        for buffer in buffers:
            try:
                got = self.recv_into(buffer)
            except BlockingIOError:
                if not done:
                    raise
                break
            done += got
            if got < len(buffer):
                break
        return (done,)

    def _fill(self) -> None:
        """Receive once. Raises BlockingIOError when there is nothing, OSError."""
        if self._is_drained or self._is_ended:
            raise BlockingIOError
        view = _scratch_view()
        got = self._socket.recv_into(view)
        self._is_drained = got < len(view) and not self._is_blocking
        if got:
            self._incoming.write(view[:got])
        else:
            self._is_ended = True
            self._incoming.write_eof()

    # --- the handshake -------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        """Go on with the handshake. Raises BlockingIOError while the other end has not sent its part, TlsError."""
        self._is_drained = False
        if not self._is_recognized:
            self._recognize()
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.push()
                self._fill()
            except ssl.SSLError as problem:
                raise self._failure_of(problem) from None
        self.push()
        self.is_ready = True
        if self.on_ready is not None:
            self.on_ready()

    def _recognize(self) -> None:
        """Look whether a client speaks TLS at all."""
        first = self._socket.recv(len(MAGIC_BYTES), socket.MSG_PEEK)
        if not first:
            raise TlsError("it closed the connection before the TLS handshake")
        if not first.startswith(_TLS_FIRST_BYTE):
            kind = PlainPeer if first == MAGIC_BYTES[: len(first)] else TlsError
            raise kind("it does not speak TLS, which this port asks for")
        self._is_recognized = True

    async def shake_hands(self) -> None:
        """The whole handshake, on a non-blocking socket within a running loop. Raises TlsError, OSError."""
        loop = asyncio.get_running_loop()
        while not self.is_ready:
            try:
                self._shake_hands()
            except BlockingIOError:
                if self._unsent:
                    await loop.sock_sendall(self._socket, self._unsent)
                    self._unsent = memoryview(b"")
                arrived = asyncio.Event()
                loop.add_reader(self.fileno(), arrived.set)
                try:
                    await arrived.wait()
                finally:
                    loop.remove_reader(self.fileno())

    def shake_hands_blocking(self) -> None:
        """The whole handshake, on a blocking socket with a timeout, which holds for each receive. Raises TlsError, OSError."""
        self._shake_hands()

    def answer_plain(self, data: bytes) -> None:
        """Say something to a client that does not speak TLS, as far as there is room."""
        with contextlib.suppress(OSError):
            self._socket.recv_into(_scratch_view())  # unread bytes would take the answer along when the socket is closed
            self._socket.send(data)

    @property
    def subject(self) -> str:
        """Whom the certificate of the other end names, as RFC 4514 writes it: "CN=alice,O=physics". "" when it has shown none."""
        return format_subject(self._tls.getpeercert() or {}) if self.is_ready else ""

    def _failure_of(self, problem: ssl.SSLError) -> TlsError:
        """What OpenSSL says, in words; the other end is told by an alert, if it can be."""
        with contextlib.suppress(OSError):
            self._push_some()
        return TlsError(_explain(problem, is_server=self._is_server))

    # --- sending -------------------------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Encrypted, and not in the socket yet."""
        return len(self._unsent) + self._outgoing.pending

    def push(self) -> None:
        """Send what is encrypted. Raises BlockingIOError when not all of it fits, OSError."""
        self._push_some()
        if self._unsent:
            raise BlockingIOError

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """As of a socket: how many bytes were taken. They leave with the next calls, or `push`."""
        return self.sendmsg((data,))

    def sendmsg(self, buffers: Sequence[bytes | memoryview], ancillary: Sequence[Any] = (), flags: int = 0) -> int:
        """As of a socket, for what is used of it. Raises BlockingIOError when what was taken before has not left."""
        if not self.is_ready:
            self._shake_hands()
        self.push()
        taken = 0
        small: list[bytes | memoryview] = []
        for buffer in buffers:
            room = _STEP - taken
            if room <= 0:
                break
            piece = buffer if len(buffer) <= room else memoryview(buffer)[:room]
            taken += len(piece)
            if len(piece) <= _JOINED_MAX:
                small.append(piece)
                continue
            self._encrypt(small)
            self._write(piece)
        self._encrypt(small)
        self._push_some()
        return taken

    def sendall(self, data: bytes) -> None:
        """As of a blocking socket."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]
        self.push()

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Read and send some of a file: how many bytes were taken, 0 at its end. Raises as `send`, and OSError of the file."""
        self.push()
        view = _scratch_view()
        got = os.preadv(fd, [view[: min(count, len(view))]], offset)
        return self.send(view[:got]) if got else 0

    def _encrypt(self, small: list[bytes | memoryview]) -> None:
        if small:
            self._write(small[0] if len(small) == 1 else b"".join(small))
            small.clear()

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as problem:
            raise self._failure_of(problem) from None

    def _push_some(self) -> None:
        """Send as much as fits."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent or self._outgoing.pending:
                if not self._unsent:
                    self._unsent = memoryview(self._outgoing.read())
                self._unsent = self._unsent[self._socket.send(self._unsent) :]


def _scratch_view() -> memoryview:
    """A buffer of this thread, for bytes that do not stay in it."""
    found: memoryview | None = getattr(_scratch, "view", None)
    if found is None:
        found = _scratch.view = memoryview(bytearray(_STEP))
    return found


_SHORT_NAMES = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C", "localityName": "L",
    "stateOrProvinceName": "ST", "domainComponent": "DC", "userId": "UID", "streetAddress": "STREET",
}  # fmt: skip


def format_subject(certificate: Any) -> str:
    """The subject of what `SSLObject.getpeercert` returns, as RFC 4514 writes it; "" when it has none."""
    parts = [
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escape(value)}" for name, value in together)
        for together in certificate.get("subject", ())
    ]
    return ",".join(reversed(parts))


def _escape(value: str) -> str:
    escaped = "".join(f"\\{each}" if each in ',+"\\<>;=' else each for each in value)
    if escaped[:1] in ("#", " "):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if len(value) > 1 and value.endswith(" ") else escaped


_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it says that our certificate is not for this purpose",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "NO_PROTOCOLS_AVAILABLE": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "what answers does not speak TLS",
    "RECORD_LAYER_FAILURE": "what answers does not speak TLS",
}


_NOT_OURS = (18, 19, 20, 21)
"""OpenSSL's verdicts on a chain that does not end at an authority we believe."""


def _explain(problem: ssl.SSLError, *, is_server: bool) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        said = "it is of none of the authorities in tls_ca" if problem.verify_code in _NOT_OURS else problem.verify_message
        return f"its certificate is refused: {said}"
    if isinstance(problem, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "it closed the connection during the TLS handshake" + ("" if is_server else "; perhaps it does not speak TLS")
    said = problem.reason or str(problem)
    return _ALERTS.get(said, f"TLS: {said.replace('_', ' ').lower()}")
