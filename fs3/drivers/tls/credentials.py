"""Who this process is to others, and whom it believes: three PEM files, and what TLS makes of them.

The files are looked at again for every new connection, at most once in `check_ns`, and read when they have changed: certificates
are renewed without a restart. When what is there cannot be used, the last ones that could are kept, and the log says so.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
import threading
from dataclasses import dataclass, fields
from pathlib import Path

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.drivers.tls.expiry import certificate_ends_ms
from fs3.ports.clock import Clock
from fs3.runtime.plain_files import read_plain_file

log = logging.getLogger("fs3.transport")

check_ns = 1 * SECOND


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files."""

    ca: str
    """Certificates of the authorities that the other ends are known by."""
    cert: str = ""
    """The certificate that this process shows, with those between it and its authority; "": none, as most clients."""
    key: str = ""
    """The private key of `cert`."""

    def __post_init__(self) -> None:
        if not self.ca and (self.cert or self.key):
            raise error(Code.INVALID, "a certificate without tls_ca: whom should this process believe?")
        if bool(self.cert) != bool(self.key):
            raise error(Code.INVALID, "tls_cert and tls_key belong together: one of them is missing")


class UnverifiedTls:
    """Of one that believes every server, and shows nothing: for an exchange that proves both ends by itself, with those whose
    authority is not known yet. May be used from any thread."""

    def client_context(self) -> ssl.SSLContext:
        """See `TlsCredentials.client_context`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def server_context(self) -> ssl.SSLContext:
        """Never."""
        raise error(Code.CONFIG, "a server that speaks TLS needs a certificate and its key: tls_cert and tls_key")


class TlsCredentials:
    """What the files say at the moment. May be used from any thread."""

    def __init__(self, files: TlsFiles, clock: Clock) -> None:
        """Raises FS3Error CONFIG naming the file that cannot be used, and why."""
        self.files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _identities(files)
        self._contents = _read(files)
        self._client = _client_context(files)
        self._server = _server_context(files) if files.cert else None
        self._looked_at = clock.now()
        self._ends_ms = certificate_ends_ms(self._contents[2] or b"")
        self.version = 1
        """Counts what was read."""

    def __repr__(self) -> str:
        return f"<TLS as {self.files.cert or 'no one'}, believing {self.files.ca}>"

    def client_context(self) -> ssl.SSLContext:
        """Of new connections to servers: they must show a certificate of the authorities that names the host dialled."""
        self._look()
        return self._client

    def server_context(self) -> ssl.SSLContext:
        """Of accepted connections. Clients may show a certificate; one that is not of the authorities is refused. FS3Error CONFIG
        without a certificate of our own."""
        self._look()
        if self._server is None:
            raise error(Code.CONFIG, "a server that speaks TLS needs a certificate and its key: tls_cert and tls_key")
        return self._server

    @property
    def ends_ms(self) -> int:
        """When the certificate that is shown ends, by time of day, in milliseconds since 1970; 0: there is none."""
        self._look()
        return self._ends_ms

    def contents(self) -> tuple[bytes, bytes | None, bytes | None]:
        """(authorities, key, certificate) in PEM, for libraries that read no files."""
        self._look()
        return self._contents

    def _look(self) -> None:
        now = self._clock.now()
        if now - self._looked_at < check_ns:
            return
        with self._lock:
            self._looked_at = now
            found = _identities(self.files)
            if found == self._seen:
                return
            self._seen = found
            try:
                contents = _read(self.files)
                client = _client_context(self.files)
                server = _server_context(self.files) if self.files.cert else None
            except FS3Error as problem:
                # Half of a renewal, most likely: it is looked at again once another file has changed.
                log.warning("the certificates stay as they were: %s", problem)
                return
            self._contents, self._client, self._server = contents, client, server
            self._ends_ms = certificate_ends_ms(contents[2] or b"")
            self.version += 1
            log.info("%s was renewed and is read", ", ".join(filter(None, (self.files.ca, self.files.cert))))


def _identities(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """What is another one when a file was replaced or written."""
    found: list[tuple[int, int, int] | None] = []
    for each in fields(files):
        try:
            status = os.stat(path) if (path := getattr(files, each.name)) else None
        except OSError:
            status = None
        found.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _read(files: TlsFiles) -> tuple[bytes, bytes | None, bytes | None]:
    if files.key:
        check_private(files.key)
    ca, key, cert = (_read_file(path) if path else None for path in (files.ca, files.key, files.cert))
    return ca or b"", key, cert


def check_private(path: str) -> None:
    """FS3Error CONFIG when others than the owner and the group may read or write a file of secrets, or it cannot be looked at."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as why:
        raise error(Code.CONFIG, f"it cannot be read: {why.strerror}", path) from why
    if mode & 0o007:
        raise error(Code.CONFIG, f"everybody on this machine may read it (mode {mode:04o}): chmod o= {path}", path)


def _read_file(path: str) -> bytes:
    try:
        return read_plain_file(Path(path))
    except OSError as why:
        raise error(Code.CONFIG, f"it cannot be read: {why.strerror}", path) from why


def _client_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, files)
    return context


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, files)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # connections last: nothing is resumed
    return context


def _prepare(context: ssl.SSLContext, files: TlsFiles) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as why:
        raise error(Code.CONFIG, f"it is no PEM file of certificates: {_reason(why)}", files.ca) from None
    if files.cert:
        try:
            context.load_cert_chain(files.cert, files.key, password=_no_password)
        except (OSError, ValueError) as why:
            told = f"it is no certificate with the key in {files.key}: {_reason(why)}"
            raise error(Code.CONFIG, told, files.cert) from None


def _no_password() -> str:
    """A key under a password cannot be used by a process without a terminal."""
    raise ValueError("the key is encrypted")


def _reason(why: Exception) -> str:
    """What OpenSSL says, without its place in a source file."""
    return getattr(why, "reason", None) or getattr(why, "strerror", None) or str(why)
