"""ACLs on two mounts do what those of a local file system do: the same steps by the same users, compared after each on the mount
that the step was not made on, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fs3.api.fuse.options import FuseOptions
from fs3.base.prng import Prng
from fs3.model.inode import User
from fs3.sim.conformance.fuse import why_no_mount
from tests.integration.test_kernel_acls import (
    ACCESS_ACL,
    BOB,
    DEFAULT_ACL,
    USERS,
    ModelAcl,
    directory,
    draw_acl,
)
from tests.mounts import embedded_mount
from tests.users import as_user

__all__ = ["directory"]

pytestmark = [
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
ROOT = User(0, 0)


class Places:
    """A local directory, and one of a cluster that is mounted twice, which get the same steps."""

    def __init__(self, local: Path, mounts: tuple[Path, Path]) -> None:
        self._local, self._mounts = local, mounts
        self._steps = 0

    def step(self, user: User, name: str, work: Callable[[], Any]) -> None:
        """Made in both; what it was answered, and what users may then do, is the same."""
        self._steps += 1
        here, other = self._mounts[:: 1 if self._steps % 2 else -1]
        local, ours = as_user(user, self._local, work), as_user(user, here, work)
        assert local == ours, f"step {self._steps}, {name}: {errno.errorcode.get(local)}, {errno.errorcode.get(ours)}"
        if (self._local / name).exists():
            for place in (other, here):
                assert self._state(self._local, name) == self._state(place, name), f"step {self._steps}, {name} on {place.name}"

    def _state(self, place: Path, name: str) -> list[Any]:
        path = place / name
        found = path.stat()
        acls = [(kind, os.getxattr(path, kind)) for kind in sorted(os.listxattr(path)) if kind in (ACCESS_ACL, DEFAULT_ACL)]
        state: list[Any] = [found.st_mode, found.st_uid, found.st_gid, acls]
        # What Linux's own file systems do with an empty mask is no example.
        if found.st_mode & 0o070:
            for user in USERS:
                may = as_user(user, place, lambda: [os.access(name, want, effective_ids=True) for want in range(1, 8)])
                state.append((user.uid, may))
        return state


@pytest.fixture
def places(directory: Path) -> Iterator[Places]:
    local, one, two = (directory / name for name in ("local", "one", "two"))
    for each in (local, one, two):
        each.mkdir()
    how = FuseOptions(allow_other=True, cache_ns=1)  # directories are not remembered for a second
    with embedded_mount(directory / "fs3", one, how), embedded_mount(directory / "fs3", two, how):
        yield Places(local, (one, two))


def make(name: str, umask: int) -> Callable[[], None]:
    def work() -> None:
        os.umask(umask)
        os.mkdir(name, 0o777)

    return work


def create(name: str, mode: int, umask: int) -> Callable[[], None]:
    def work() -> None:
        os.umask(umask)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    return work


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_on_a_local_file_system(places: Places, seed: int) -> None:
    prng = Prng(seed)
    places.step(ROOT, "top", make("top", 0))
    default = ModelAcl(7, 5, 1, {BOB.uid: 7}, {61200: 6}, 7).attribute()
    places.step(ROOT, "top", lambda: os.setxattr("top", DEFAULT_ACL, default))
    for name in ("top/a", "top/b"):
        places.step(prng.pick(USERS), name, make(name, 0o022))
    for _ in range(15):
        parent = prng.pick(("top", "top/a", "top/b"))
        name = f"{parent}/{prng.below(4)}"
        user, mode = prng.pick(USERS), prng.pick((0o777, 0o666, 0o640, 0o600))
        changed, changer = prng.pick((parent, name)), prng.pick((ROOT, user))
        match prng.below(3):
            case 0:
                places.step(user, name, create(name, mode, prng.pick((0, 0o022, 0o077))))
            case 1:
                kind, acl = prng.pick((ACCESS_ACL, DEFAULT_ACL)), draw_acl(prng).attribute()
                places.step(changer, changed, lambda: os.setxattr(changed, kind, acl))  # noqa: B023
            case _:
                places.step(changer, changed, lambda: os.chmod(changed, mode))  # noqa: B023
