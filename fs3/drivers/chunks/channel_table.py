"""Channel rows: what was the last update committed for each channel, for as long as a client may ask.

    kind u8 = 1 | crc u32 | epoch u32 | msgpack of the ChannelRow          (format 1 of the index: the msgpack alone, epoch 0)

Little-endian; the CRC32C covers the key, the epoch and what follows. A row carries the channel epoch of its last use. When the
epoch advances, a sweep goes through all rows, a page with every barrier, and drops those that are two epochs old.
"""

from __future__ import annotations

import msgspec

from fs3.base.checksum import crc32c
from fs3.drivers.chunks.durable_index import DurableIndex
from fs3.drivers.chunks.index import pack_key, unpack_key
from fs3.drivers.chunks.rows import RowDamaged
from fs3.model.chunk import ChannelKey, ChannelRow
from fs3.ports.chunk_store import StoreDamaged

channels_per_sweep_max = 512
"""Channel rows looked at by one barrier that forgets old ones."""

channels_kept_max = 4096
"""Channel rows of the durable index that are kept decoded, of one target."""

_UNKNOWN = object()
_HEAD_BYTES = 9
_KIND = b"\x01"
_EPOCH_MAX = 0xFFFF_FFFF
_EPOCHS_KEPT = 2

ChannelEntry = tuple[ChannelRow, int]
"""A row and the epoch of its last use."""


class ChannelTable:
    """The current channel rows of a target: unsynced changes over the index's snapshot. Belongs to the loop."""

    def __init__(self, index: DurableIndex, channels_max: int) -> None:
        """Reads nothing but the number of rows. Raises StoreDamaged."""
        self._index = index
        self._max = channels_max
        self.count = index.count_channels()
        """How many rows there are."""
        self.epoch = index.read_channel_epoch()
        self._unsynced: dict[ChannelKey, ChannelEntry | None] = {}
        """Rows that differ from the durable index; None: dropped."""
        self._changes: dict[ChannelKey, ChannelEntry | None] = {}
        """Those no barrier has taken yet."""
        self._recent: dict[ChannelKey, ChannelEntry] = {}
        """Rows of the durable index that were looked at or written lately: an update asks for its channel's three times."""
        self._epoch_changed = False
        self._sweep_after: bytes | None = None
        self.needs_sweep = True
        """There may be old rows that have not been looked at since they are old."""

    @property
    def room(self) -> int:
        """`ChunkStore.channel_room`."""
        return max(self._max - self.count, 0)

    @property
    def rows_max(self) -> int:
        """What merges may fill the store up to."""
        return 2 * self._max

    @property
    def has_changes(self) -> bool:
        """A barrier has something to take along."""
        return self._epoch_changed or bool(self._changes)

    def find(self, key: ChannelKey) -> ChannelRow | None:
        """The row of a channel. Raises StoreDamaged."""
        found = self._find(key)
        return None if found is None else found[0]

    def _find(self, key: ChannelKey) -> ChannelEntry | None:
        entry = self._unsynced.get(key, _UNKNOWN)
        if entry is not _UNKNOWN:
            return entry  # type: ignore[return-value]
        known = self._recent.get(key)
        if known is None:
            packed = self._index.get_channel(key)
            if packed is None:
                return None
            known = self._decode(pack_key(key), packed)
            self._keep(key, known)
        return known

    def _keep(self, key: ChannelKey, entry: ChannelEntry) -> None:
        if len(self._recent) >= channels_kept_max:
            self._recent.clear()
        self._recent[key] = entry

    def record(self, key: ChannelKey, row: ChannelRow) -> None:
        """The row is the channel's, unless that has a later one. Raises StoreDamaged."""
        found = self._find(key)
        if found is None:
            self.count += 1
        elif found[0].seq > row.seq:
            row = found[0]
        elif found == (row, self.epoch):
            return
        self._unsynced[key] = self._changes[key] = (row, self.epoch)

    def page(self, after: ChannelKey | None, limit: int) -> list[tuple[ChannelKey, ChannelRow]]:
        """`ChunkStore.list_channels`. Raises StoreDamaged."""
        start = None if after is None else pack_key(after)
        fresh = sorted((pack_key(key), entry) for key, entry in self._unsynced.items() if start is None or pack_key(key) > start)
        found: list[tuple[ChannelKey, ChannelRow]] = []
        at = 0
        for packed_key, packed in self._index.scan_channels(start, limit):
            while at < len(fresh) and fresh[at][0] < packed_key and len(found) < limit:
                _take(found, *fresh[at])
                at += 1
            if len(found) >= limit:
                return found
            if at < len(fresh) and fresh[at][0] == packed_key:
                _take(found, *fresh[at])
                at += 1
            else:
                _take(found, packed_key, self._decode(packed_key, packed))
        for packed_key, entry in fresh[at:]:
            if len(found) >= limit:
                break
            _take(found, packed_key, entry)
        return found

    def check(self) -> None:
        """Look at every row of the index once, for opening a target. Raises StoreDamaged."""
        try:
            for key, packed in self._index.scan_channels(None):
                check(key, packed)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._index.directory)) from why

    def _decode(self, key: bytes, packed: bytes) -> ChannelEntry:
        try:
            return decode(key, packed)
        except RowDamaged as why:
            raise StoreDamaged(str(why), str(self._index.directory)) from why

    # --- forgetting --------------------------------------------------------------------------------------------------

    def advance_epoch(self) -> None:
        """`ChunkStore.advance_channel_epoch`."""
        if self.epoch < _EPOCH_MAX:
            self.epoch += 1
            self._epoch_changed = True
            self.needs_sweep = True
            self._sweep_after = None

    def sweep(self) -> None:
        """Drop the old ones among the next few rows."""
        for count, (key, packed) in enumerate(self._index.scan_channels(self._sweep_after, channels_per_sweep_max), 1):
            if _epoch_of(packed) + _EPOCHS_KEPT <= self.epoch:
                name = unpack_key(key)
                if name not in self._unsynced:
                    self._unsynced[name] = self._changes[name] = None
                    self.count -= 1
            if count == channels_per_sweep_max:
                self._sweep_after = key
                return
        self.needs_sweep = False

    # --- barriers ----------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[ChannelKey, ChannelEntry | None], int]:
        """What a barrier that begins has to write: rows, and the epoch or 0."""
        taken, self._changes = self._changes, {}
        epoch, self._epoch_changed = (self.epoch if self._epoch_changed else 0), False
        return taken, epoch

    def put_back(self, taken: dict[ChannelKey, ChannelEntry | None], epoch: int) -> None:
        """That barrier failed."""
        self._changes = {**taken, **self._changes}
        self._epoch_changed = self._epoch_changed or bool(epoch)

    def mark_durable(self, taken: dict[ChannelKey, ChannelEntry | None]) -> None:
        """The durable index has these now. They may have changed again in the meantime."""
        for key, entry in taken.items():
            if self._unsynced.get(key, _UNKNOWN) is entry:
                del self._unsynced[key]
                if entry is None:
                    self._recent.pop(key, None)
                else:
                    self._keep(key, entry)


def _take(found: list[tuple[ChannelKey, ChannelRow]], packed_key: bytes, entry: ChannelEntry | None) -> None:
    if entry is not None:
        found.append((unpack_key(packed_key), entry[0]))


def encode(key: bytes, entry: ChannelEntry) -> bytes:
    """The packed form."""
    row, epoch = entry
    body = epoch.to_bytes(4, "little") + msgspec.msgpack.encode(row)
    return _KIND + crc32c(body, crc32c(key)).to_bytes(4, "little") + body


def check(key: bytes, packed: bytes) -> None:
    """Raises RowDamaged when a row is not as it was written."""
    if packed[:1] == _KIND:
        if len(packed) < _HEAD_BYTES or crc32c(packed[5:], crc32c(key)) != int.from_bytes(packed[1:5], "little"):
            raise _damaged(key)
    else:
        decode(key, packed)


def decode(key: bytes, packed: bytes) -> ChannelEntry:
    """The row and its epoch. Raises RowDamaged."""
    try:
        if packed[:1] != _KIND:
            return msgspec.msgpack.decode(packed, type=ChannelRow), 0
        check(key, packed)
        return msgspec.msgpack.decode(packed[_HEAD_BYTES:], type=ChannelRow), _epoch_of(packed)
    except msgspec.DecodeError as why:
        raise _damaged(key) from why


def _epoch_of(packed: bytes) -> int:
    return int.from_bytes(packed[5:9], "little") if packed[:1] == _KIND else 0


def _damaged(key: bytes) -> RowDamaged:
    client, channel = unpack_key(key)
    return RowDamaged(f"the index row of channel {channel} of client {client.hex()} is damaged")
