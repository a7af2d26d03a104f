"""The machine by itself, before and after its memory was used once: what figures of the other families depend on.

A virtual machine whose host has not backed its memory yet pays for every new page. All other families are measured after this one
has had the memory in its hands; here the cold state stands beside the warm one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benches import limits
from benches.record import Row, Spread

if TYPE_CHECKING:
    from benches.run import Context

MIB = 1 << 20
WARMED_BYTES_MAX = 4 << 30
PROBE_BYTES = 256 * MIB
BLOCK = 4 * MIB


def measure(context: Context) -> list[Row]:
    """The rows of the machine; afterwards its memory is warm."""
    blocks = context.sized(PROBE_BYTES, BLOCK) // BLOCK
    cold = [limits.touch_memory(blocks * BLOCK) / 1e9]
    cold_writes = [limits.write_cached(context.directory, BLOCK, blocks) / 1e9]
    limits.touch_memory(context.sized(min(WARMED_BYTES_MAX, _available() // 2), BLOCK))
    warm, warm_writes, additions, echoes, commits, small, large = [], [], [], [], [], [], []
    for _ in context.turns():
        warm.append(limits.touch_memory(blocks * BLOCK) / 1e9)
        warm_writes.append(limits.write_cached(context.directory, BLOCK, blocks) / 1e9)
        additions.append(limits.add_in_python(context.sized(5_000_000, 1000)) / 1e6)
        echoes.append(limits.echo(4096, context.sized(10_000, 20)))
        commits.append(limits.synced_commits(context.directory, context.sized(1000, 20)))
        small.append(limits.write_synced(context.directory, 4096, context.sized(1000, 20)))
        large.append(limits.write_synced(context.directory, BLOCK, context.sized(50, 4)) * BLOCK / 1e9)
    touched, written = "memory taken for the first time", "4 MiB into new page cache"
    return [
        Row("machine", f"{touched}, before warming", "GB/s", Spread.of(cold)),
        Row("machine", f"{touched}, warm", "GB/s", Spread.of(warm)),
        Row("machine", f"{written}, before warming", "GB/s", Spread.of(cold_writes)),
        Row("machine", f"{written}, warm", "GB/s", Spread.of(warm_writes)),
        Row("machine", "additions in a loop of Python", "million/s", Spread.of(additions)),
        Row("machine", "4 KiB echo between two processes", "/s", Spread.of(echoes)),
        Row("machine", "synced LMDB commit", "/s", Spread.of(commits)),
        Row("machine", "4 KiB and fdatasync", "/s", Spread.of(small)),
        Row("machine", "4 MiB and fdatasync", "GB/s", Spread.of(large)),
    ]


def _available() -> int:
    """Bytes that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0
