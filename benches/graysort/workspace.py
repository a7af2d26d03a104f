"""What a worker has at hand: the plan, its three directories, and room for records."""

from __future__ import annotations

import numpy as np

from .directory import Directory, Meter, no_meter
from .plan import GraySortPlan
from .records import RECORD_BYTES, Records


class Workspace:
    """The world of a task; the coordinating process opens one too, without a meter."""

    def __init__(self, plan: GraySortPlan, meter: Meter = no_meter) -> None:
        options = plan.storage_options
        self.plan = plan
        self.input = Directory("input", plan.input_url, options, meter, synced=plan.synced)
        self.shuffle = Directory("shuffle", plan.shuffle_url, options, meter, synced=plan.synced)
        self.output = Directory("output", plan.output_url, options, meter, synced=plan.synced)
        self._scratch: Records = np.empty((0, RECORD_BYTES), dtype=np.uint8)

    @property
    def directories(self) -> tuple[Directory, Directory, Directory]:
        return self.input, self.shuffle, self.output

    def scratch(self, records: int) -> Records:
        """Room for so many records, until the next call; fresh pages cost more than copies do."""
        if len(self._scratch) < records:
            self._scratch = self._scratch[:0].copy()  # let go of the old before asking for the new
            self._scratch = np.empty((records, RECORD_BYTES), dtype=np.uint8)
        return self._scratch[:records]
