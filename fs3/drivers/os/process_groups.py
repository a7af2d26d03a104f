"""The supplementary groups of another process."""

from __future__ import annotations

import os
import pwd


def groups_of_process(pid: int) -> tuple[int, ...] | None:
    """Of a process or thread of this machine; None when it is not there, or in another pid namespace."""
    if not pid:
        return None
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("Groups:"):
                    return tuple(int(word) for word in line.split()[1:])
    except OSError:
        pass
    return None


def groups_of_user(uid: int, gid: int) -> tuple[int, ...]:
    """Those that the group database says a user has; none for a user it does not know."""
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return ()
