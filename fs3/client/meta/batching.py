"""Where a long list of paths is cut, so that each piece fits into a frame and holds up other requests for a short while only."""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.limits import batch_stat_paths_max, request_bytes_max
from fs3.base.status import Code, Retry


def split_paths(paths: Sequence[str]) -> list[Sequence[str]]:
    """Paths cut into requests: not too many, and not too long for a frame."""
    cut: list[Sequence[str]] = []
    begin = room = 0
    for index, path in enumerate(paths):
        size = 4 * len(path) + 8
        if index == begin + batch_stat_paths_max or (index > begin and size > room):
            cut.append(paths[begin:index])
            begin = index
        if index == begin:
            room = request_bytes_max
        room -= size
    if begin < len(paths):
        cut.append(paths[begin:])
    return cut


def is_retryable(code: Code, index: int) -> bool:
    """An item of a batch that is answered so is worth another try; TOO_LARGE means that its answer did not fit any more."""
    return code.retry is not Retry.NEVER or (code is Code.TOO_LARGE and index > 0)
