"""Finishing truncations that were left half done: by a service that died, or because storage did not answer for a while."""

from __future__ import annotations

from functools import partial

from fs3.base.ids import InodeId
from fs3.core.meta import trims
from fs3.core.meta.errors import MetaError
from fs3.ports.kv import KV
from fs3.services.meta.duties.duty import Duty
from fs3.services.meta.duties.lease import DutyLease
from fs3.services.meta.trimmer import Trimmer

trims_per_page_max = 256
"""Truncations under way that one read looks at."""


class TrimsDuty(Duty):
    """Takes what was outstanding a look ago already: the service that was asked usually needs no help."""

    name = "trims"

    def __init__(self, lease: DutyLease | None, kv: KV, trimmer: Trimmer, interval_ms: int) -> None:
        super().__init__(lease, interval_ms)
        self._kv = kv
        self._trimmer = trimmer
        self._seen: set[InodeId] = set()
        """Outstanding at the last look."""
        self.finished = 0
        """Truncations since the start."""

    async def step(self) -> bool:
        """One look at all of them. A file whose storage does not answer does not keep the others waiting for ever."""
        seen: set[InodeId] = set()
        failure: MetaError | None = None
        after: InodeId | None = None
        while page := await self._kv.read(partial(trims.list_trims, after=after, limit=trims_per_page_max)):
            after = page[-1]
            for inode in page:
                seen.add(inode)
                if inode not in self._seen:
                    continue
                try:
                    await self._trimmer.finish(inode)
                except MetaError as why:
                    failure = why
                else:
                    self.finished += 1
        self._seen = seen
        if failure is not None:
            raise failure
        return False
