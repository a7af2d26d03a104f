"""ACLs do what those of this machine's kernel do: the same steps on a directory of it and in a namespace, compared after each.

Needs root, who takes the place of other users, and a file system with ACLs. What differs on purpose is left out: the kernel does
not look at an ACL whose mask is empty, and gives users that it names what others have.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fs3.base.ids import ChainId, ClientId, TableId
from fs3.base.prng import Prng
from fs3.core.meta.access import has_permission
from fs3.core.meta.bootstrap import ensure_root
from fs3.core.meta.context import LayoutDefaults, OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.operations import operation_of
from fs3.drivers.memory.kv import MemoryKV
from fs3.model.chain import ChainTable
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import GetXattr, ListXattr, Mkdir, Put, Request, SetAttributes, SetXattr, Stat
from fs3.model.routing import Routing
from fs3.sim.acl_model import ModelAcl
from tests.users import as_user

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ACCESS_ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
ALICE, BOB, CAROL, DAVE = User(61000, 61000), User(61001, 61001, (61100,)), User(61002, 61002, (61100, 61200)), User(61003, 61003)
USERS = (ALICE, BOB, CAROL, DAVE)
IDS = (61000, 61001, 61002, 61100, 61200)
ROUTING = Routing(tables={TableId(1): ChainTable(TableId(1), 1, 1, (ChainId(1),))})


class Namespace:
    """One in memory."""

    def __init__(self) -> None:
        self._kv = MemoryKV()
        ctx = self._context(User(0, 0))
        self._kv.transact_now(lambda txn: ensure_root(txn, ctx, mode=0o755))

    def _context(self, user: User) -> OpContext:
        return OpContext(user, 1, ClientId(bytes(16)), 0, ROUTING, LayoutDefaults(TableId(1)))

    def ask(self, request: Request[Any], user: User) -> Any:
        """The answer, or the errno."""
        ctx = self._context(user)
        try:
            return self._kv.transact_now(lambda txn: operation_of(request)(txn, ctx, request))
        except MetaError as refusal:
            return refusal.code.errno


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("takes the place of other users, which only root may")
    try:
        os.setxattr(tmp_path, DEFAULT_ACL, ModelAcl(7, 5, 5).attribute())
        os.removexattr(tmp_path, DEFAULT_ACL)
    except OSError as refusal:
        pytest.skip(f"the file system of temporary files has no ACLs: {refusal}")
    tmp_path.chmod(0o755)
    return tmp_path


def draw_acl(prng: Prng) -> ModelAcl:
    def some() -> dict[int, int]:
        return {prng.pick(IDS): prng.below(8) for _ in range(prng.below(3))}

    users, groups = some(), some()
    mask = prng.between(1, 7) if users or groups or prng.chance(1, 4) else None
    return ModelAcl(prng.below(8), prng.below(8), prng.below(8), users, groups, mask)


def explain_difference(directory: Path, namespace: Namespace, name: str) -> str:
    """What the kernel says of a file, and what the namespace does, where they are not the same."""
    path, root = directory / name, User(0, 0)
    inode = namespace.ask(Stat(PathRef.of(name)), root)
    status = path.stat()
    theirs: list[Any] = [status.st_mode & 0o7777, status.st_uid, status.st_gid]
    ours: list[Any] = [inode.mode, inode.uid, inode.gid]
    listed = [each.decode() for each in namespace.ask(ListXattr(PathRef.of(name)), root)]
    ours += [listed, [namespace.ask(GetXattr(PathRef.of(name), each.encode()), root) for each in listed]]
    there = sorted(each for each in os.listxattr(path) if each in (ACCESS_ACL, DEFAULT_ACL))
    theirs += [there, [os.getxattr(path, each) for each in there]]
    if status.st_mode & 0o070:
        for user in USERS:
            asked = as_user(user, directory, lambda: [os.access(name, want, effective_ids=True) for want in range(1, 8)])
            is_reached = not isinstance(namespace.ask(Stat(PathRef.of(name)), user), int)
            theirs.append(asked)
            ours.append([is_reached and has_permission(user, inode, want) for want in range(1, 8)])
    return "" if ours == theirs else f"{name}: the kernel says {theirs}, and here is {ours}"


class Both:
    """The kernel's directory and the namespace, which get the same steps."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._namespace = directory, Namespace()

    def make(self, user: User, name: str, mode: int, umask: int) -> None:
        def kernel() -> None:
            os.umask(umask)
            os.mkdir(name, mode)

        self._step(user, name, kernel, Mkdir(PathRef.of(name), mode, umask=umask))

    def create(self, user: User, name: str, mode: int, umask: int) -> None:
        def kernel() -> None:
            os.umask(umask)
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

        self._step(user, name, kernel, Put(PathRef.of(name), b"", mode, exclusive=True, umask=umask))

    def set_acl(self, user: User, name: str, kind: str, acl: ModelAcl) -> None:
        value = acl.attribute()
        self._step(user, name, lambda: os.setxattr(name, kind, value), SetXattr(PathRef.of(name), kind.encode(), value))

    def chmod(self, user: User, name: str, mode: int) -> None:
        self._step(user, name, lambda: os.chmod(name, mode), SetAttributes(PathRef.of(name), mode=mode))

    def _step(self, user: User, name: str, kernel: Callable[[], None], request: Request[Any]) -> None:
        told = as_user(user, self._directory, kernel) or 0
        answer = self._namespace.ask(request, user)
        assert told == (answer if isinstance(answer, int) else 0), f"{name}: {errno.errorcode.get(told)}, {answer}"
        if (self._directory / name).exists():
            assert not (problem := explain_difference(self._directory, self._namespace, name)), problem


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_the_kernel(directory: Path, seed: int) -> None:
    prng, both, root = Prng(seed), Both(directory), User(0, 0)
    both.make(root, "top", 0o777, 0)
    both.chmod(root, "top", 0o777)
    both.set_acl(root, "top", DEFAULT_ACL, ModelAcl(7, 5, 1, {BOB.uid: 7}, {61200: 6}, 7))
    for name in ("top/a", "top/b"):
        both.make(prng.pick(USERS), name, 0o777, 0o022)
    for _ in range(20):
        parent = prng.pick(("top", "top/a", "top/b"))
        name = f"{parent}/{prng.below(4)}"
        user, mode = prng.pick(USERS), prng.pick((0o777, 0o666, 0o640, 0o600))
        changed, changer = prng.pick((parent, name)), prng.pick((root, user))
        match prng.below(3):
            case 0:
                both.create(user, name, mode, prng.pick((0, 0o022, 0o077)))
            case 1:
                both.set_acl(changer, changed, prng.pick((ACCESS_ACL, DEFAULT_ACL)), draw_acl(prng))
            case _:
                both.chmod(changer, changed, mode)
