"""What is mounted, where and how: said to the processes of a mount as one word of their command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class MountPlan:
    """Of one mount. Knows no more than its holder does, which is to stay small."""

    url: str
    """As the user gave it."""
    source: str
    """As the table of mounts shows it."""
    directory: str
    """Absolute, without symlinks."""
    path: str = ""
    """The directory of the cluster that is mounted; "": its root."""
    direct_io: bool = False
    cache_ns: int = 0
    allow_other: bool = False
    read_only: bool = False
    noatime: bool = False
    token_file: str = ""
    """Of the user whose rights the mount has; "": as the environment says."""

    def to_word(self) -> str:
        """One word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, word: str) -> MountPlan:
        """What `to_word` made."""
        return cls(**json.loads(word))
