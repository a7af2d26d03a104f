"""Traces of requests in the published Mooncake format: JSON lines of timestamp, input_length, output_length and hash_ids.

Each hash id stands for the pages of 512 tokens and of all tokens before them; a request's input is there as far as its first ids
have pages. Format and traces: Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025, and its release.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK_TOKENS = 512
line_bytes_max = 1 << 20
"""A longer line is no request."""


class TraceError(ValueError):
    """A line of a trace is not a request; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace."""

    timestamp_ms: int
    """Since the trace's beginning; never before the request in front of it."""
    input_length: int
    """Tokens."""
    output_length: int
    """Tokens."""
    blocks: tuple[int, ...]
    """Hash ids of the input, in its order."""


def read_trace(path: Path) -> Iterator[Request]:
    """The requests of a file. Raises TraceError at the first line that is none, OSError when it cannot be read."""
    before = 0
    with path.open("rb") as lines:
        number = 0
        while line := lines.readline(line_bytes_max):
            number += 1
            if not line.strip():
                continue
            try:
                request = _parse(line)
                if request.timestamp_ms < before:
                    raise TraceError(f"timestamp {request.timestamp_ms} comes after {before}")
            except ValueError as problem:  # of json too
                raise TraceError(f"{path}:{number}: {problem}") from None
            before = request.timestamp_ms
            yield request


def write_trace(requests: Iterable[Request], path: Path) -> int:
    """Requests as a file. Returns how many."""
    count = 0
    with path.open("w") as out:
        for request in requests:
            line = {
                "timestamp": request.timestamp_ms,
                "input_length": request.input_length,
                "output_length": request.output_length,
                "hash_ids": request.blocks,
            }
            out.write(json.dumps(line) + "\n")
            count += 1
    return count


def paced(requests: Sequence[Request], tokens_per_second: float) -> list[Request]:
    """The same requests so close together that so many tokens of input come in a second, on average."""
    total = sum(request.input_length for request in requests)
    span_ms = max(requests[-1].timestamp_ms, 1)
    factor = total / tokens_per_second * 1000 / span_ms
    return [Request(round(each.timestamp_ms * factor), each.input_length, each.output_length, each.blocks) for each in requests]


def split_blocks(request: Request, pages_per_block: int) -> list[int]:
    """The request's pages, when a block of 512 tokens is so many of them; those behind the input's end are left out."""
    pages = [block * pages_per_block + part for block in request.blocks for part in range(pages_per_block)]
    tokens = BLOCK_TOKENS // pages_per_block
    return pages[: -(-request.input_length // tokens)]


def _parse(line: bytes) -> Request:
    if len(line) >= line_bytes_max:
        raise TraceError(f"a line of {line_bytes_max} bytes or more")
    fields: Any = json.loads(line)
    if not isinstance(fields, dict):
        raise TraceError("not an object")
    numbers = []
    for name in ("timestamp", "input_length", "output_length"):
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise TraceError(f"{name} is {value!r}, not a number from 0")
        numbers.append(value)
    blocks = fields.get("hash_ids")
    if not isinstance(blocks, list) or not all(isinstance(block, int) and 0 <= block < 1 << 60 for block in blocks):
        raise TraceError("hash_ids is not a list of numbers from 0")
    return Request(numbers[0], numbers[1], numbers[2], tuple(blocks))
