"""Steps that a process of another user takes. Needs root, who may take the place of others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fs3.model.inode import User


def as_user(user: User, directory: Path, work: Callable[[], Any]) -> Any:
    """What the work answers when a process of the user does it in a directory; an OSError's errno instead of it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            # So the directories above need not let the user pass.
            os.chdir(directory)
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            try:
                answer = work()
            except OSError as refusal:
                answer = refusal.errno
            os.write(write, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        answer = told.read()
    os.waitpid(child, 0)
    return json.loads(answer)
