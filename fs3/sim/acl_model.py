"""Access control lists as dicts, by the words of acl(5): what the real ones are compared with.

It shares no code with `fs3.core.meta.acl`, and takes its time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from fs3.model.inode import User

_NOBODY = 0xFFFFFFFF


@dataclass(frozen=True)
class ModelAcl:
    """Permissions of owner, owning group and others, of users and groups by their ids, and the mask."""

    owner: int
    group: int
    others: int
    users: dict[int, int] = field(default_factory=dict)
    groups: dict[int, int] = field(default_factory=dict)
    mask: int | None = None

    def is_more_than_a_mode(self) -> bool:
        """It has a mask: without users, groups and mask it is what nine permission bits are."""
        return self.mask is not None

    def mode(self) -> int:
        """The nine permission bits that ls shows."""
        return self.owner * 64 + (self.group if self.mask is None else self.mask) * 8 + self.others

    def with_mode(self, mode: int) -> ModelAcl:
        """After chmod."""
        owner, middle, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
        if self.mask is None:
            return replace(self, owner=owner, group=middle, others=others)
        return replace(self, owner=owner, mask=middle, others=others)

    def limited_to(self, mode: int) -> ModelAcl:
        """Of what is created with a mode, from a default ACL."""
        owner, others = self.owner & mode >> 6, self.others & mode
        if self.mask is None:
            return replace(self, owner=owner, group=self.group & mode >> 3, others=others)
        return replace(self, owner=owner, mask=self.mask & mode >> 3, others=others)

    def may_access(self, user: User, owning_gid: int, bits: int) -> bool:
        """A user who is not the owner."""
        mask = 7 if self.mask is None else self.mask
        if user.uid in self.users:
            return self.users[user.uid] & mask & bits == bits
        mine = {user.gid, *user.groups}
        matching = [self.group] if owning_gid in mine else []
        matching += [permissions for gid, permissions in self.groups.items() if gid in mine]
        if matching:
            return any(permissions & mask & bits == bits for permissions in matching)
        return self.others & bits == bits

    def attribute(self) -> bytes:
        """As the kernel writes it."""
        entries = [(1, self.owner, _NOBODY)]
        entries += [(2, permissions, uid) for uid, permissions in sorted(self.users.items())]
        entries.append((4, self.group, _NOBODY))
        entries += [(8, permissions, gid) for gid, permissions in sorted(self.groups.items())]
        if self.mask is not None:
            entries.append((16, self.mask, _NOBODY))
        entries.append((32, self.others, _NOBODY))
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
