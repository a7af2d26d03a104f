"""Questions for the presence of thousands of chunks: bits for an answer, checked where they arrive."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from fs3.base.errors import error
from fs3.base.limits import keys_per_find_max
from fs3.base.status import Code
from fs3.wire.malformed import malformed
from fs3.wire.pb import storage_pb2 as pb
from fs3.wire.storage import split_ids

_PLACE_BYTES = 2
_DIGITS = bytes([*b"01", *bytes(254)])

assert keys_per_find_max <= 1 << 8 * _PLACE_BYTES


class ContainsColumns(NamedTuple):
    """A question for presence, checked where it arrives."""

    chunks: Sequence[bytes]
    places: Sequence[int]
    """Per chunk the index of its chain."""
    chains: Sequence[int]
    chain_versions: Sequence[int]


class Presence(NamedTuple):
    """The answer to it."""

    lengths: Sequence[int]
    """Per chunk its length; 0: it is not there, or has no bytes."""
    refused: Sequence[tuple[int, int]]
    """(index, code) of those of which nothing is known."""


def contains_request_to_pb(columns: ContainsColumns) -> pb.ContainsRequest:
    """The message of a question for at most `keys_per_find_max` chunks."""
    return pb.ContainsRequest(
        chunks=b"".join(columns.chunks),
        places=_pack_places(columns.places),
        chains=columns.chains,
        chain_versions=columns.chain_versions,
    )


def contains_request_from_pb(request: pb.ContainsRequest) -> ContainsColumns:
    """The columns of a request. Raises INVALID naming the column."""
    chains = request.chains[:]
    versions = request.chain_versions[:]
    if len(chains) > keys_per_find_max:
        raise malformed("chains", f"{len(chains)} elements, at most {keys_per_find_max} are allowed")
    if len(versions) != len(chains):
        raise malformed("chain_versions", f"{len(versions)} elements beside {len(chains)} chains")
    packed = request.places
    count, rest = divmod(len(packed), _PLACE_BYTES)
    if rest or count > keys_per_find_max:
        raise malformed("places", f"{len(packed)} bytes; {_PLACE_BYTES} a chunk, of at most {keys_per_find_max}")
    places = _unpack_places(packed)
    if count and max(places) >= len(chains):
        raise malformed("places", f"{max(places)} is none of {len(chains)} chains")
    return ContainsColumns(split_ids(request.chunks, count, "chunks"), places, chains, versions)


def contains_reply_to_pb(presence: Presence, *, routing_version: int) -> pb.ContainsReply:
    """The answer: a bit per chunk, and a length for all of them unless they differ."""
    lengths = presence.lengths
    # By way of text, whose digits are converted at the speed of C.
    digits = bytes(map(bool, lengths)).translate(_DIGITS)[::-1]
    bits = int(digits or b"0", 2).to_bytes(_bitmap_bytes(len(lengths)), "little")
    different = set(lengths)
    different.discard(0)
    return pb.ContainsReply(
        present=bits,
        refused=[index for index, _ in presence.refused],
        codes=[code for _, code in presence.refused],
        routing_version=routing_version,
        lengths=different if len(different) < 2 else filter(None, lengths),
    )


def contains_reply_from_pb(reply: pb.ContainsReply, count: int) -> Presence:
    """The answer about `count` chunks. Raises PROTOCOL when it is not about so many."""
    packed = reply.present
    bits = int.from_bytes(packed, "little")
    if len(packed) != _bitmap_bytes(count) or bits >> count:
        raise error(Code.PROTOCOL, f"{count} chunks were asked for and {len(packed)} bytes of bits answered")
    refused = reply.refused[:]
    codes = reply.codes[:]
    if len(refused) != len(codes) or any(index >= count for index in refused) or 0 in codes:
        raise error(Code.PROTOCOL, f"{len(refused)} refused chunks with {len(codes)} codes in an answer about {count}")
    return Presence(_spread(bits, count, reply.lengths[:]), list(zip(refused, codes, strict=True)))


def _spread(bits: int, count: int, lengths: Sequence[int]) -> list[int]:
    """The length of each chunk, 0 where its bit is not set."""
    present = bits.bit_count()
    if 0 in lengths or len(lengths) not in {min(present, 1), present}:
        raise error(Code.PROTOCOL, f"{len(lengths)} lengths of {present} chunks that are there")
    if not present:
        return [0] * count
    digits = f"{bits:0{count}b}"[::-1]
    if len(lengths) == 1:
        (length,) = lengths
        return [length] * count if present == count else [length if digit == "1" else 0 for digit in digits]
    following = iter(lengths)
    return [next(following) if digit == "1" else 0 for digit in digits]


def _bitmap_bytes(count: int) -> int:
    return (count + 7) // 8


def _pack_places(places: Sequence[int]) -> bytes:
    packed = array("H", places)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack_places(packed: bytes) -> Sequence[int]:
    places = array("H", packed)
    if sys.byteorder == "big":
        places.byteswap()
    return places
