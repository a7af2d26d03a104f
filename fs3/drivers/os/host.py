"""Which host this is: processes with equal identities can use the `local` transport between them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/ns/mnt")
_PROCESSES = Path("/proc/self/ns/pid")


def host_identity(machine_id: Path = _MACHINE_ID, boot_id: Path = _BOOT_ID, mounts: Path = _MOUNTS) -> str:
    """16 hex digits, the same for all processes that see one file tree of one running system; "" when the system does not say.

    The boot id is part of it because machine ids are copied with disk images, the mount namespace because two containers may
    have one socket path each of their own: a client must never reach another node than the one it means.
    """
    try:
        boot = boot_id.read_text().strip()
        tree = os.readlink(mounts)
    except OSError:
        return ""
    try:
        machine = machine_id.read_text().strip()
    except OSError:
        machine = ""  # many containers have none, and the boot id is unique by itself
    if not boot:
        return ""
    return hashlib.sha256(f"fs3 host {machine} {boot} {tree}".encode()).hexdigest()[:16]


def pid_space(boot_id: Path = _BOOT_ID, processes: Path = _PROCESSES) -> int:
    """A number of 64 bits, the same for all processes that know each other by the same process ids; 0 when the system does not
    say."""
    try:
        boot = boot_id.read_text().strip()
        space = os.readlink(processes)
    except OSError:
        return 0
    return int.from_bytes(hashlib.sha256(f"fs3 processes {boot} {space}".encode()).digest()[:8], "big") if boot else 0
