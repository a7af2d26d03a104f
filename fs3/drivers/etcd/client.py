"""Calls to the members of an etcd cluster: another member is asked when one does not answer; errors say what is wrong.

Importing this imports grpc (see `fs3.drivers.grpc`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from fs3.drivers.grpc import require_grpc

require_grpc()
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
from grpc.aio import AioRpcError  # noqa: E402

from fs3.base.backoff import Backoff  # noqa: E402
from fs3.base.errors import FS3Error, error  # noqa: E402
from fs3.base.status import Code  # noqa: E402
from fs3.base.units import GIB, MILLISECOND, SECOND  # noqa: E402
from fs3.drivers.etcd.access import PLAIN, EtcdAccess  # noqa: E402
from fs3.drivers.grpc.last_words import await_last_words  # noqa: E402
from fs3.ports.clock import Clock  # noqa: E402
from fs3.wire.etcd import (  # noqa: E402
    AUTHENTICATE,
    LEASE_KEEP_ALIVE,
    RANGE,
    TXN,
    WATCH,
    EtcdRange,
    EtcdReadReply,
    EtcdRow,
    decode_authenticate,
    decode_range,
    decode_txn,
    encode_authenticate,
    encode_range,
    encode_read,
)

etcd_attempt_ns = 1500 * MILLISECOND
"""One try at one member; then another one is asked. Longer than an election of etcd's takes as a rule."""
etcd_retry_min_ns = 20 * MILLISECOND
etcd_retry_max_ns = 250 * MILLISECOND
"""Before the next member is asked."""
etcd_reply_bytes_max = 1 * GIB
"""A reply with the largest rows there can be in one read."""

_OPTIONS = (
    ("grpc.max_receive_message_length", etcd_reply_bytes_max),
    ("grpc.max_send_message_length", etcd_reply_bytes_max),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", etcd_retry_min_ns // MILLISECOND),
    ("grpc.min_reconnect_backoff_ms", etcd_attempt_ns // MILLISECOND),
    ("grpc.max_reconnect_backoff_ms", etcd_retry_max_ns // MILLISECOND),
    # A member whose machine has vanished is noticed although nothing is being asked of it, as the one a watch is at.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)
_Status = grpc.StatusCode
_REFUSALS = {
    _Status.PERMISSION_DENIED: Code.ACCESS,
    _Status.UNAUTHENTICATED: Code.ACCESS,
    _Status.UNIMPLEMENTED: Code.UNSUPPORTED,
    _Status.INVALID_ARGUMENT: Code.INVALID,
    _Status.OUT_OF_RANGE: Code.INVALID,
}
_HINTS = {
    "too many operations in txn request": "each member has to be started with --max-txn-ops {operations}",
    "request is too large": "each member has to be started with --max-request-bytes {request_bytes}",
    "database space exceeded": "raise --quota-backend-bytes, or compact and defragment it; then disarm the alarm",
    "required revision has been compacted": "it took longer than --auto-compaction-retention keeps old revisions",
    "user name is empty": "etcd tells users apart: name one, with ?user=NAME&password_file=FILE",
}
etcd_txn_operations_max = 4096
etcd_request_bytes_max = 8 * 1024 * 1024
"""Of one transaction: what the members must be told to admit (`--max-txn-ops`, `--max-request-bytes`)."""


_SILENCE = (Code.UNAVAILABLE, Code.DISCONNECTED, Code.DEADLINE)
"""A member has not answered, or could not do anything: another one may."""


def is_refusal(why: FS3Error) -> bool:
    """A member has looked at the request and does nothing about it; another one, or later, would say the same. Or it could not be
    sent, for want of a file that is named."""
    return why.code in (Code.ACCESS, Code.CONFIG, Code.UNSUPPORTED, Code.INVALID, Code.TOO_LARGE, Code.PROTOCOL)


class EtcdClient:
    """Connections to the members, made as they are needed. On one loop."""

    def __init__(self, endpoints: Sequence[str], clock: Clock, access: EtcdAccess = PLAIN) -> None:
        """`endpoints`: "host:port" of the members, or of some of them. FS3Error CONFIG naming a file that cannot be read."""
        self.endpoints = tuple(endpoints)
        self.clock = clock
        self.access = access
        self._credentials = _make_credentials(access)
        self._token = ""
        """Says who we are, where users are told apart; empty: a member has to be asked for one."""
        self._authenticating = asyncio.Lock()
        self._channels: dict[str, Any] = {}
        self._callables: dict[tuple[str, str], Any] = {}
        self._at = 0
        self.on_moved: Callable[[str], None] = lambda endpoint: None
        """Called with a member that was given up for another one."""

    @property
    def endpoint(self) -> str:
        """The member that is asked first."""
        return self.endpoints[self._at]

    async def call(self, method: str, request: bytes, *, endpoint: str = "", timeout_ns: int = etcd_attempt_ns) -> bytes:
        """One try, at one member.

        FS3Error: NO_SPACE, ACCESS, INVALID, TOO_LARGE when the request was refused; UNAVAILABLE when it was not sent;
        DISCONNECTED and DEADLINE when it may have been carried out, now or later.
        """
        endpoint = endpoint or self.endpoint
        call, timeout = self._callable(endpoint, method), timeout_ns / SECOND
        if not self.access.user:
            try:
                reply: bytes = await call(request, timeout=timeout)
            except AioRpcError as problem:
                raise self._note_failure(problem, endpoint) from problem
            return reply
        for is_last in (False, True):
            token = await self._authenticate(endpoint, timeout)
            try:
                reply = await call(request, timeout=timeout, metadata=(("token", token),))
            except AioRpcError as problem:
                if not is_last and _is_old_token(problem):  # nothing was carried out
                    self._forget(token)
                    continue
                raise self._note_failure(problem, endpoint) from problem
            break
        return reply

    def _note_failure(self, problem: AioRpcError, endpoint: str) -> FS3Error:
        why = _explain(problem, endpoint)
        if why.code in _SILENCE:
            self._move_from(endpoint)
        return why

    async def _authenticate(self, endpoint: str, timeout: float) -> str:
        """The token of our user; empty when there is none to be. FS3Error as `call`."""
        if self._token or not self.access.user:
            return self._token
        async with self._authenticating:
            if not self._token:
                request = encode_authenticate(self.access.user, self.access.read_password())
                try:
                    reply = await self._callable(endpoint, AUTHENTICATE)(request, timeout=timeout)
                except AioRpcError as problem:
                    raise self._note_failure(problem, endpoint) from problem
                self._token = decode_authenticate(reply)
            return self._token

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = ""

    async def ask(self, method: str, request: bytes, deadline: int) -> bytes:
        """A request that may be repeated, until it is answered or the deadline (of the clock) has passed.

        FS3Error: as `call`; UNAVAILABLE naming the members and what was wrong with the last one.
        """
        backoff = Backoff(etcd_retry_min_ns, etcd_retry_max_ns)
        while True:
            left = max(deadline - self.clock.now(), etcd_retry_min_ns)
            try:
                return await self.call(method, request, timeout_ns=min(etcd_attempt_ns, left))
            except FS3Error as why:
                if why.code not in _SILENCE:
                    raise
                wait = backoff.next_ns()
                if self.clock.now() + wait >= deadline:
                    raise self.no_quorum(why) from why
            await asyncio.sleep(wait / SECOND)

    def no_quorum(self, why: FS3Error) -> FS3Error:
        """The error that no member carries requests out. `why`: what was wrong with the last one."""
        members = ", ".join(self.endpoints)
        return error(Code.UNAVAILABLE, f"no quorum of etcd at {members}; the last answer: {why.strerror}")

    async def read(self, ranges: Sequence[EtcdRange], deadline: int) -> EtcdReadReply:
        """Read ranges, linearizably and at one revision. FS3Error as `ask`.

        Several of them in one transaction; a member whose quota of space is used up refuses even those that write nothing, and is
        asked for one range after the other.
        """
        if len(ranges) > 1:
            try:
                reply = decode_txn(await self.ask(TXN, encode_read(ranges), deadline))
                return EtcdReadReply(reply.revision, reply.ranges)
            except FS3Error as why:
                if why.code is not Code.NO_SPACE:
                    raise
        found: list[tuple[EtcdRow, ...]] = []
        revision = 0
        for wanted in ranges:
            part = decode_range(await self.ask(RANGE, encode_range(wanted, revision), deadline))
            revision = revision or part.revision
            found += part.ranges
        return EtcdReadReply(revision, tuple(found))

    async def watch(self, request: bytes, endpoint: str) -> AsyncGenerator[bytes]:
        """The messages of a watch at one member, which ends it when it has no leader. FS3Error UNAVAILABLE when it ends."""
        token = await self._authenticate(endpoint, etcd_attempt_ns / SECOND)
        known = (("token", token),) if token else ()
        stream = self._channel(endpoint).stream_stream(WATCH)(metadata=(("hasleader", "true"), *known))
        try:
            await stream.write(request)
            while True:
                message = await stream.read()
                if message is grpc.aio.EOF:
                    raise error(Code.UNAVAILABLE, f"etcd at {endpoint} has ended the watch")
                yield message
        except AioRpcError as problem:
            if _is_old_token(problem):
                self._forget(token)
            raise _explain(problem, endpoint) from problem
        except asyncio.InvalidStateError as problem:  # the library, of a stream that has ended
            raise error(Code.UNAVAILABLE, f"etcd at {endpoint} has ended the watch") from problem
        finally:
            stream.cancel()

    async def keep_alive(self, request: bytes) -> bytes:
        """One renewal of a lease. FS3Error as `call`."""
        endpoint = self.endpoint
        token = await self._authenticate(endpoint, etcd_attempt_ns / SECOND)
        known = (("token", token),) if token else None
        stream = self._channel(endpoint).stream_stream(LEASE_KEEP_ALIVE)(timeout=etcd_attempt_ns / SECOND, metadata=known)
        try:
            await stream.write(request)
            message = await stream.read()
        except (AioRpcError, asyncio.InvalidStateError) as problem:
            raise error(Code.UNAVAILABLE, f"etcd at {endpoint} does not renew a lease") from problem
        finally:
            stream.cancel()
        if message is grpc.aio.EOF:
            raise error(Code.UNAVAILABLE, f"etcd at {endpoint} does not renew a lease")
        reply: bytes = message
        return reply

    def avoid(self, endpoint: str) -> None:
        """A member is behind, or does not answer: another one is asked first."""
        self._move_from(endpoint)

    def _move_from(self, endpoint: str) -> None:
        if endpoint == self.endpoint:
            self._at = (self._at + 1) % len(self.endpoints)
            self.on_moved(endpoint)

    def _channel(self, endpoint: str) -> Any:
        channel = self._channels.get(endpoint)
        if channel is None:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
            else:
                channel = grpc.aio.secure_channel(endpoint, self._credentials, options=_OPTIONS)
            self._channels[endpoint] = channel
        return channel

    def _callable(self, endpoint: str, method: str) -> Any:
        found = self._callables.get((endpoint, method))
        if found is None:
            # Without serialisers: requests and replies are bytes.
            found = self._callables[endpoint, method] = self._channel(endpoint).unary_unary(method)
        return found

    async def close(self) -> None:
        """Close the connections."""
        channels, self._channels = self._channels, {}
        self._callables.clear()
        for channel in channels.values():
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close()
        await await_last_words()


def _make_credentials(access: EtcdAccess) -> Any:
    if not access.is_encrypted:
        return None
    ca, key, cert = access.read_certificates()
    return grpc.ssl_channel_credentials(ca, key, cert)


def _is_old_token(problem: AioRpcError) -> bool:
    details = problem.details() or ""
    return "invalid auth token" in details or "revision of auth store is old" in details


def _explain(problem: AioRpcError, endpoint: str) -> FS3Error:
    status, details = problem.code(), problem.details() or "no details"
    hint = next((hint for text, hint in _HINTS.items() if text in details), "")
    told = f"etcd at {endpoint}: {details}"
    if hint:
        told += "; " + hint.format(operations=etcd_txn_operations_max, request_bytes=etcd_request_bytes_max)
    if "database space exceeded" in details:
        return error(Code.NO_SPACE, told)
    if status is _Status.RESOURCE_EXHAUSTED and "too many requests" not in details:
        return error(Code.TOO_LARGE, told)
    if "request is too large" in details:
        return error(Code.TOO_LARGE, told)
    if hint and "user name" in details:
        return error(Code.ACCESS, told)
    if "authentication failed" in details or "permission denied" in details or "invalid auth token" in details:
        return error(Code.ACCESS, told)
    if "authentication is not enabled" in details:
        return error(Code.ACCESS, f"{told}; leave user out, or `etcdctl auth enable`")
    if "andshake" in details or "CERTIFICATE" in details or "SSL" in details:
        return error(Code.UNAVAILABLE, f"{told}; are ca, cert and key those of these members?")
    if status is _Status.UNAVAILABLE and "failed to connect" in details:
        return error(Code.UNAVAILABLE, told)
    if status is _Status.DEADLINE_EXCEEDED:
        return error(Code.DEADLINE, told)
    return error(_REFUSALS.get(status, Code.DISCONNECTED), told)
