"""For whom requests are asked."""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fs3.api.fuse.identity import Identities, groups_of, groups_valid_ns, threads_kept_max
from fs3.drivers.fuse.records import KernelRequest
from fs3.model.inode import User


class Views:
    """A client that makes views of users, and counts them."""

    def __init__(self, uid: int) -> None:
        self.meta = SimpleNamespace(user=User(uid, uid))
        self.made = 0

    def as_user(self, uid: int, gid: int, groups: tuple[int, ...]) -> Any:
        self.made += 1
        return SimpleNamespace(meta=SimpleNamespace(user=User(uid, gid, groups)))


class Threads:
    """Groups of threads, and a clock."""

    def __init__(self) -> None:
        self.groups: dict[int, tuple[int, ...]] = {}
        self.now_ns = 0
        self.looked = 0

    def read(self, request: KernelRequest) -> tuple[int, ...]:
        self.looked += 1
        return self.groups.get(request.pid, ())

    def now(self) -> int:
        return self.now_ns


def request(uid: int, gid: int = 7, pid: int = 1) -> KernelRequest:
    return KernelRequest(1, 2, 1, uid, gid, pid)


def identities(uid: int) -> tuple[Any, Threads]:
    threads = Threads()
    return Identities(Views(uid), threads.read, threads.now), threads  # type: ignore[arg-type]


def test_a_mount_by_root_asks_for_each_user() -> None:
    mount, threads = identities(0)
    threads.groups = {1: (4, 5), 2: (6,)}
    assert mount.meta_for(request(1000)).user == User(1000, 7, (4, 5))
    assert mount.meta_for(request(1000, 8, 2)).user == User(1000, 8, (6,))
    assert mount.meta_for(request(0, 0)).user == User(0, 0)


def test_a_mount_by_another_user_asks_for_that_one_alone() -> None:
    mount, threads = identities(1000)
    threads.groups = {1: (4,)}
    assert mount.meta_for(request(1000)).user == User(1000, 1000)
    for uid in (0, 1001):
        with pytest.raises(OSError, match="uses the mount of user 1000") as refused:
            mount.meta_for(request(uid))
        assert refused.value.errno == errno.EACCES


def test_groups_are_looked_at_again_after_a_second() -> None:
    mount, threads = identities(0)
    threads.groups = {1: (4,)}
    first = mount.meta_for(request(1000))
    threads.groups = {1: (5,)}
    threads.now_ns = groups_valid_ns - 1
    assert mount.meta_for(request(1000)) is first
    assert threads.looked == 1
    threads.now_ns = groups_valid_ns
    assert mount.meta_for(request(1000)).user.groups == (5,)


def test_threads_that_are_kept_are_bounded() -> None:
    mount, threads = identities(0)
    for pid in range(threads_kept_max + 1):
        mount.meta_for(request(1000, pid=pid))
    mount.meta_for(request(1000, pid=threads_kept_max))
    assert threads.looked == threads_kept_max + 1
    mount.meta_for(request(1000, pid=0))
    assert threads.looked == threads_kept_max + 2


def test_groups_of_a_process() -> None:
    assert set(groups_of(request(os.getuid(), pid=os.getpid()))) == set(os.getgroups())
    if os.geteuid() == 0:
        with subprocess.Popen(["sleep", "60"], user=61000, group=61001, extra_groups=[61002, 61003]) as running:
            assert groups_of(request(61000, 61001, running.pid)) == (61002, 61003)
            running.kill()


def test_groups_of_a_user_whose_process_cannot_be_looked_at() -> None:
    user = pwd.getpwuid(os.getuid())
    assert set(groups_of(request(user.pw_uid, user.pw_gid, 0))) == set(os.getgrouplist(user.pw_name, user.pw_gid))
    gone = next(pid for pid in range(1 << 22, 1, -1) if not Path(f"/proc/{pid}").exists())
    assert user.pw_gid in groups_of(request(user.pw_uid, user.pw_gid, gone))
    assert groups_of(request((1 << 31) - 5, 7, 0)) == ()
