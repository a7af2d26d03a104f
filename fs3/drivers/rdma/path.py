"""The RDMA path of one framed connection: agreeing on it, proving it, using it, leaving it.

The sender of a payload copies it into a slot and offers it; the receiver reads it from there (RDMA READ) into a slot of its own,
and says so. No process ever writes into another, nothing is received, and what the socket says is in order with the offers:

- a read's reply and an update's payload are the same thing, in opposite directions;
- a call that is given up gives up nothing in memory: the slot stays lent until the receiver has done with it;
- a payload that was not fetched is still where it was, and leaves by the socket under the same request id: no handler runs twice.

A path ends in one way: its queue pair is closed, which takes every key of it from the peer and ends every read of this end,
before anything else is done. Then the fetches under way fail, which has the peer send them by the socket, and the peer is told.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence

from fs3.base.errors import FS3Error
from fs3.base.units import KIB, MIB
from fs3.core.rdma.choosing import Pair, choose
from fs3.core.rdma.fetching import PayloadFetch
from fs3.core.rdma.lending import Lending
from fs3.drivers.framed.bulk_path import OnFetched, SendMessage
from fs3.drivers.rdma.pair_reads import FetchJob, PairReads
from fs3.drivers.rdma.pool import LentSlot, MemorySlot
from fs3.drivers.rdma.settings import PathSettings, RdmaHost
from fs3.drivers.rdma.verbs import VerbsError
from fs3.drivers.rpc.payload import copy_parts
from fs3.model.rdma import PathEnd, PathMessage, PathStep, RdmaAddress, RemoteRegion
from fs3.ports.rpc import Part
from fs3.wire.frames import FrameError
from fs3.wire.paths import pack_offer, pack_path_message, unpack_path_message

log = logging.getLogger("fs3.transport")

depth = 16
"""Reads under way of one path, as far as both devices admit."""
share_bytes_max = 64 * MIB
"""What one connection has lent, and as much again what it has fetched and not released."""
loans_max = 256
proof_bytes = 64 * KIB
tries_max = 64
"""Queue pairs that a server makes before the client has to ask anew."""

OnProved = Callable[[], None]
"""The other end was read, and everything arrived as it should."""


class _FetchedSlot:
    """A slot whose bytes have arrived: `fs3.drivers.framed.bulk_path.FetchedBytes`."""

    __slots__ = ("_path", "_slot")

    def __init__(self, path: RdmaPath, slot: MemorySlot) -> None:
        self._path = path
        self._slot = slot

    @property
    def view(self) -> memoryview:
        """See `FetchedBytes.view`."""
        return self._slot.view

    def release(self) -> None:
        """See `FetchedBytes.release`."""
        self._path.release(self._slot)


class RdmaPath:
    """`fs3.drivers.framed.bulk_path.BulkPath`, both ends of it."""

    def __init__(self, host: RdmaHost, peer: str, send: SendMessage, *, is_client: bool) -> None:
        self._host = host
        self._settings: PathSettings = host.settings
        self._peer = peer
        self._send_message = send
        self._is_client = is_client
        self._now = host.clock.now
        self._is_up = False
        self._is_agreeing = False
        self._is_closed = False
        self._asks = is_client
        self._ask_at = 0
        self._attempt = 0
        self._tries = 0
        self._is_proving = False
        self._mtu = 0
        self._theirs: PathEnd | None = None
        self._why = "no path was asked for yet" if is_client else "the client has not asked for a path"
        self._using = ""
        self._offered: tuple[RdmaAddress, ...] = ()  # server: what HELLO said
        self._pairs: list[Pair] = []  # client: those not tried yet
        self._rejected: list[str] = []
        self._reads: PairReads | None = None
        self._address: RdmaAddress | None = None
        self._psn = 0
        self._proof: LentSlot | None = None
        self._lending: Lending[LentSlot] = Lending(loans_max, share_bytes_max)
        self._held_bytes = 0  # in slots that were fetched and not released

    # --- the port ------------------------------------------------------------------------------------------------------

    def should_ask(self) -> bool:
        """See `BulkPath.should_ask`."""
        if not self._asks or self._now() < self._ask_at:
            return False
        usable, rejected = self._host.addresses()
        if not usable:
            self._give_up("; ".join(rejected))
            return False
        self._asks = False
        self._why = "the server has not answered, as one does that knows of no RDMA"
        return True

    @property
    def is_idle(self) -> bool:
        """See `BulkPath.is_idle`."""
        return not self._lending and not self._reads

    @property
    def bytes_min(self) -> int:
        """See `BulkPath.bytes_min`."""
        return self._settings.bytes_min

    def describe(self) -> tuple[str, str]:
        """See `BulkPath.describe`."""
        return self._using, self._why

    def on_asked(self) -> None:
        """See `BulkPath.on_asked`."""
        if self._is_up or self._is_agreeing or self._is_closed:
            return
        usable, rejected = self._host.addresses()
        if not usable:
            self._why = "; ".join(rejected)
            self._say(PathStep.DOWN, PathMessage(reason=self._why))
            return
        self._is_agreeing = True
        self._offered = usable
        self._tries = 0
        self._rejected = list(rejected)
        self._say(PathStep.HELLO, PathMessage(addresses=usable))

    def on_message(self, step: int, header: bytes | bytearray | memoryview) -> None:
        """See `BulkPath.on_message`."""
        known, message = unpack_path_message(step, header)
        if known is PathStep.DOWN:
            self._on_down(message.attempt, message.reason[:500])
            return
        if self._is_client != (known in (PathStep.HELLO, PathStep.BUILT, PathStep.UP)):
            raise FrameError(f"{known.name} from the wrong end of a path")
        match known:
            case PathStep.HELLO:
                self._on_hello(message)
            case PathStep.CHOICE:
                self._on_choice(message)
            case _ if message.attempt != self._attempt or self._reads is None or not self._is_agreeing:
                pass  # of an attempt that was given up meanwhile
            case PathStep.BUILT | PathStep.PROVED if self._is_proving:
                raise FrameError(f"{known.name} a second time")
            case PathStep.BUILT:
                self._on_built(message)
            case PathStep.PROVED:
                self._prove(self._tell_up)
            case PathStep.UP:
                self._on_up()

    def lend(self, number: int, parts: Sequence[Part], length: int) -> bytes | None:
        """See `BulkPath.lend`."""
        reads = self._reads
        if not self._is_up or reads is None or not self._lending.has_room(number, length):
            return None
        slot = self._host.pool.acquire(length)
        if slot is None:
            return None
        try:
            copy_parts(parts, [slot.view])
            loan = LentSlot(slot, reads.pair.register(slot.view, is_remote=True))
        except VerbsError as problem:
            slot.release()
            self._end(str(problem))
            return None
        except FS3Error:  # a file that cannot be read: the stream deals with that
            slot.release()
            return None
        except BaseException:
            slot.release()
            raise
        self._lending.lend(number, loan)
        return pack_offer([RemoteRegion(loan.registration.address, loan.registration.key, length)])

    def on_taken(self, number: int) -> None:
        """See `BulkPath.on_taken`."""
        if not self._lending.on_fetched(number):
            raise FrameError(f"request {number} has no offer that could be taken")

    def on_refused(self, number: int) -> MemorySlot:
        """See `BulkPath.on_refused`."""
        loan = self._lending.on_refused(number)
        if loan is None:
            raise FrameError(f"request {number} has no offer that could be refused")
        return loan.slot

    def fetch(self, regions: Sequence[RemoteRegion], fetched: OnFetched) -> None:
        """See `BulkPath.fetch`."""
        length = sum(region.length for region in regions)
        fits = not self._held_bytes or self._held_bytes + length <= share_bytes_max
        reads = self._reads if self._is_up and fits else None
        slot = None if reads is None else self._host.pool.acquire(length)
        if reads is None or slot is None:
            fetched(None)
            return
        self._held_bytes += slot.size
        reads.fetch(regions, FetchJob(slot, fetched))

    def release(self, slot: MemorySlot) -> None:
        """The bytes of a slot that was fetched are not needed any more."""
        self._held_bytes -= slot.size
        slot.release()

    def close(self) -> None:
        """See `BulkPath.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._asks = False
        self._release_all(self._drop_pair())
        self._lending.close()

    # --- agreeing ------------------------------------------------------------------------------------------------------

    def _on_hello(self, message: PathMessage) -> None:
        if self._is_up or self._is_agreeing:
            raise FrameError("HELLO while there is a path, or one is agreed on")
        usable, rejected = self._host.addresses()
        choice = choose(usable, message.addresses)
        self._pairs = list(choice.pairs[: self._settings.pairs_max])
        self._rejected = [*rejected, *choice.rejected]
        self._is_agreeing = True
        self._try_next()

    def _try_next(self) -> None:
        """Client: have the server build its end of the likeliest pair that is left."""
        while self._pairs:
            pair = self._pairs.pop(0)
            self._address = pair.ours
            try:
                end = self._build(pair.ours)
            except VerbsError as problem:
                self._drop_pair()
                self._rejected.append(str(problem))
                continue
            self._attempt += 1
            self._say(PathStep.CHOICE, PathMessage(self._attempt, choice=pair.theirs, end=end))
            return
        self._give_up("; ".join(self._rejected) or "no address of the two ends suits the other")
        self._say(PathStep.DOWN, PathMessage(reason=self._why))

    def _on_choice(self, message: PathMessage) -> None:
        if not self._is_agreeing or not 0 <= message.choice < len(self._offered) or message.end is None:
            raise FrameError(f"CHOICE {message.choice} of {len(self._offered)} addresses")
        self._tries += 1
        if self._tries > tries_max:
            raise FrameError(f"more than {tries_max} choices")
        self._release_all(self._drop_pair())  # the one before was no good to the client
        self._attempt = message.attempt
        self._address = self._offered[message.choice]
        try:
            end = self._build(self._address)
            self._connect(message.end)
        except VerbsError as problem:
            self._fail_try(str(problem))
            return
        self._theirs = message.end
        self._say(PathStep.BUILT, PathMessage(self._attempt, end=end))

    def _on_built(self, message: PathMessage) -> None:
        assert message.end is not None
        try:
            self._connect(message.end)
        except VerbsError as problem:
            self._fail_try(str(problem))
            return
        self._theirs = message.end
        self._prove(lambda: self._say(PathStep.PROVED, PathMessage(self._attempt)))

    def _tell_up(self) -> None:
        self._say(PathStep.UP, PathMessage(self._attempt))
        self._on_up()

    def _on_up(self) -> None:
        self._is_agreeing = False
        self._is_up = True
        self._end_proof()
        self._using = str(self._address)
        self._why = f"proved at an MTU of {self._mtu}"
        if self._rejected:
            self._why += f"; not used: {'; '.join(self._rejected)}"
        log.info("payloads of %s travel by RDMA, %s: %s", self._peer, self._using, self._why)

    def _build(self, address: RdmaAddress) -> PathEnd:
        pair = self._host.verbs().queue_pair(address, depth)
        self._reads = PairReads(self, self._host, pair)
        self._is_proving = False
        slot = self._host.pool.acquire(proof_bytes)
        if slot is None:
            raise VerbsError("there is no room for a proof")
        self._psn = int.from_bytes(os.urandom(3), "little")
        try:
            slot.view[:] = _proof(self._psn)
            registration = pair.register(slot.view, is_remote=True)
        except BaseException:
            slot.release()
            raise
        self._proof = LentSlot(slot, registration)
        region = RemoteRegion(registration.address, registration.key, proof_bytes)
        return PathEnd(pair.number, self._psn, pair.mtu, pair.reads_max, address.gid, address.lid, region)

    def _connect(self, theirs: PathEnd) -> None:
        assert self._reads is not None
        pair = self._reads.pair
        self._mtu = min(pair.mtu, theirs.mtu)
        reads_max = min(pair.reads_max, theirs.reads_max)
        pair.connect(theirs, self._psn, self._mtu, reads_max)
        self._reads.start(reads_max)

    def _prove(self, proved: OnProved) -> None:
        """Read what the other end has put there, in lengths around the MTU, where a network that promises too much fails."""
        theirs, reads = self._theirs, self._reads
        assert theirs is not None
        assert reads is not None
        self._is_proving = True
        expected = _proof(theirs.psn)
        if theirs.proof.length != proof_bytes:
            self._fail_try(f"the other end offers {theirs.proof.length} bytes as a proof, {proof_bytes} are due")
            return
        mtu = self._mtu
        lengths = [1, mtu - 1, mtu, mtu + 1, 2 * mtu + 1, 0]
        left = len(lengths)
        at = 0
        for length in lengths:
            offset, length = (at, length) if length else (0, proof_bytes)
            at += length
            slot = self._host.pool.acquire(length)
            if slot is None:
                self._fail_try("there is no room for a proof")
                return
            self._held_bytes += slot.size

            def fetched(arrived: object, slot: MemorySlot = slot, offset: int = offset, length: int = length) -> None:
                nonlocal left
                if arrived is None:
                    return
                is_right = slot.view == expected[offset : offset + length]
                self.release(slot)
                left -= 1
                if not is_right:
                    self._fail_try(f"{length} bytes arrived changed, at an MTU of {mtu}")
                elif not left:
                    proved()

            region = RemoteRegion(theirs.proof.address + offset, theirs.proof.key, length)
            reads.fetch([region], FetchJob(slot, fetched))
            if self._reads is not reads:
                return

    def _fail_try(self, reason: str) -> None:
        """The pair of addresses that is tried is no good: the client goes on to the next one."""
        self._release_all(self._drop_pair())
        self._rejected.append(f"{self._address}: {reason}")
        if self._is_client:
            self._try_next()
        else:
            self._why = "; ".join(self._rejected)
            self._say(PathStep.DOWN, PathMessage(self._attempt, reason=reason))

    def _release_all(self, fetches: Sequence[PayloadFetch]) -> None:
        for fetch in fetches:
            self.release(fetch.item.slot)

    # --- the end -------------------------------------------------------------------------------------------------------

    def _on_down(self, attempt: int, reason: str) -> None:
        told = f"the other end says: {reason or 'nothing'}"
        if not attempt:
            self._end(told, tell=False)
        elif attempt == self._attempt and self._is_agreeing and self._is_client and self._reads is not None:
            self._fail_try(told)

    def _end(self, reason: str, *, tell: bool = True) -> None:
        """There is no path any more. What is under way goes on by the socket."""
        if self._is_closed:
            return
        was_up, using = self._is_up, self._using
        lost = self._drop_pair()
        self._give_up(reason, tells=not was_up)
        if tell:
            self._say(PathStep.DOWN, PathMessage(reason=reason))
        if was_up:
            log.warning(
                "the RDMA path of %s, %s, is given up, %d payloads under way go by TCP: %s", self._peer, using, len(lost), reason
            )
        for fetch in lost:
            self.release(fetch.item.slot)
            fetch.item.fetched(None)

    def _give_up(self, reason: str, *, tells: bool = True) -> None:
        self._is_agreeing = False
        self._asks = self._is_client
        self._ask_at = self._now() + self._settings.retry_ns
        if tells and self._why != reason:
            log.info("payloads of %s travel by TCP: %s", self._peer, reason)
        self._why = reason

    def _drop_pair(self) -> list[PayloadFetch]:
        """Close the queue pair: no key is worth anything, no read arrives any more. The fetches that were under way."""
        self._is_up = False
        self._using = ""
        reads, self._reads = self._reads, None
        if reads is None:
            return []
        self._end_proof()
        self._lending.revoke_all()
        return reads.close()

    def _end_proof(self) -> None:
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.revoke()
            proof.release()

    def _say(self, step: PathStep, message: PathMessage) -> None:
        if not self._is_closed:
            self._send_message(step, pack_path_message(message))

    # --- reads ---------------------------------------------------------------------------------------------------------

    def on_fetched(self, fetch: PayloadFetch) -> None:
        """See `ReadsOwner.on_fetched`."""
        if self._is_up:
            self._host.fetched_bytes += fetch.length
        fetch.item.fetched(_FetchedSlot(self, fetch.item.slot))

    def on_broken(self, reason: str) -> None:
        """See `ReadsOwner.on_broken`."""
        if self._is_agreeing:
            self._fail_try(reason)
        else:
            self._end(reason)


def _proof(psn: int) -> bytes:
    """What an end puts there to be read: of which no two places look alike."""
    return hashlib.shake_128(psn.to_bytes(4, "little")).digest(proof_bytes)
