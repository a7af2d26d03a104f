"""What programs of many users do on a mount by root: owners, groups, umask, ACLs, attributes, special files, any names."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs3.api.fuse.options import FuseOptions
from fs3.base.limits import name_bytes_max
from fs3.model.inode import User
from fs3.sim.acl_model import ModelAcl
from fs3.sim.conformance.fuse import fails_with, why_no_mount
from tests.mounts import embedded_mount
from tests.users import as_user

pytestmark = [
    pytest.mark.skipif(bool(why_no_mount()), reason=f"nothing can be mounted here: {why_no_mount()}"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

ACCESS_ACL, DEFAULT_ACL, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
ALICE, BOB, CAROL = User(61000, 61000, (61500,)), User(61001, 61001), User(61002, 61002, (61500,))
CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""What setcap(8) stores for cap_net_raw=ep."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A mount that everyone may use and create in."""
    (tmp_path / "one").mkdir()
    with embedded_mount(tmp_path / "fs3", tmp_path / "one", FuseOptions(allow_other=True)):
        (tmp_path / "one").chmod(0o777)
        yield tmp_path / "one"


@pytest.fixture
def two(root: Path) -> Iterator[Path]:
    """Another one of the same cluster."""
    directory = root.parent / "two"
    directory.mkdir()
    with embedded_mount(root.parent / "fs3", directory, FuseOptions(allow_other=True)):
        yield directory


def write_file(name: str, mode: int = 0o644) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(fd, b"bytes")
    os.close(fd)


def write_over(name: str) -> None:
    fd = os.open(name, os.O_WRONLY)
    os.write(fd, b"other")
    os.close(fd)


def read_file(name: str) -> str:
    return Path(name).read_text()


def test_users_own_what_they_create_and_are_kept_out_of_what_is_not_theirs(root: Path) -> None:
    assert as_user(ALICE, root, lambda: write_file("f", 0o640)) is None
    found = (root / "f").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (61000, 61000, 0o640)
    assert as_user(ALICE, root, lambda: read_file("f")) == "bytes"
    assert as_user(BOB, root, lambda: read_file("f")) == errno.EACCES
    assert as_user(BOB, root, lambda: os.chmod("f", 0o666)) == errno.EPERM
    assert as_user(BOB, root, lambda: os.truncate("f", 0)) == errno.EACCES
    assert read_file(str(root / "f")) == "bytes"


def test_supplementary_groups_are_those_of_the_process(root: Path) -> None:
    assert as_user(ALICE, root, lambda: (write_file("f", 0o640), os.chown("f", -1, 61500))[1]) is None
    assert as_user(CAROL, root, lambda: read_file("f")) == "bytes"
    assert as_user(BOB, root, lambda: read_file("f")) == errno.EACCES
    assert as_user(CAROL, root, lambda: os.chown("f", -1, 61500)) == errno.EPERM
    assert as_user(User(61002, 61002), root, lambda: read_file("f")) == errno.EACCES


def test_a_file_that_one_user_has_open_is_written_by_another(root: Path) -> None:
    """The first one may only read."""
    assert as_user(ALICE, root, lambda: write_file("f")) is None
    reader = os.open(root / "f", os.O_RDONLY)
    try:

        def append() -> int:
            fd = os.open("f", os.O_WRONLY)
            os.pwrite(fd, b"x" * 100_000, 5)
            os.close(fd)
            return os.stat("f").st_size

        assert as_user(ALICE, root, append) == 100_005
        assert os.pread(reader, 6, 0) == b"bytesx"
    finally:
        os.close(reader)


def test_the_handle_that_creates_a_file_writes_it_whatever_its_mode_is(root: Path) -> None:
    (root / "group").mkdir()
    os.chown(root / "group", 0, 61500)
    (root / "group").chmod(0o2770)
    assert as_user(ALICE, root / "group", lambda: write_file("f", 0o400)) is None
    found = (root / "group" / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_size, stat.S_IMODE(found.st_mode)) == (61000, 61500, 5, 0o400)
    assert as_user(ALICE, root / "group", lambda: write_over("f")) == errno.EACCES
    assert as_user(BOB, root, lambda: os.listdir("group")) == errno.EACCES


def test_a_sticky_directory(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d").chmod(0o1777)
    assert as_user(ALICE, root / "d", lambda: write_file("f")) is None
    assert as_user(BOB, root / "d", lambda: os.unlink("f")) == errno.EPERM
    assert as_user(BOB, root / "d", lambda: os.rename("f", "g")) == errno.EPERM
    assert as_user(ALICE, root / "d", lambda: os.unlink("f")) is None


def test_set_ids_go_when_another_user_writes_or_cuts(root: Path) -> None:
    for name, change in (("w", lambda: write_over("w")), ("t", lambda: os.truncate("t", 1))):
        write_file(str(root / name))
        (root / name).chmod(0o6777)
        assert as_user(BOB, root, change) is None
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o777


@pytest.fixture
def of_alice(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where there is, as `alice`, a mount of the same cluster whose client is not root's, as when Alice had mounted it."""
    directory = root.parent / "alice"
    directory.mkdir()
    root.parent.chmod(0o755)
    monkeypatch.setattr("fs3.api.fuse.mount._look", lambda _: None)  # root, who runs this, may not
    with embedded_mount(root.parent / "fs3", directory, FuseOptions(allow_other=True), ALICE):
        yield root.parent


def test_a_mount_by_another_user_is_for_that_one_alone(root: Path, of_alice: Path) -> None:
    assert as_user(ALICE, of_alice, lambda: write_file("alice/f", 0o666)) is None
    assert as_user(ALICE, of_alice, lambda: os.chown("alice/f", -1, 61500)) is None
    assert ((root / "f").stat().st_uid, (root / "f").stat().st_gid) == (ALICE.uid, 61500)
    for user in (BOB, User(0, 0)):
        assert as_user(user, of_alice, lambda: write_file("alice/g")) == errno.EACCES
        assert as_user(user, of_alice, lambda: read_file("alice/f")) == errno.EACCES

    def create_and_write() -> str:
        fd = os.open("alice/locked", os.O_CREAT | os.O_RDWR, 0o400)
        os.write(fd, b"own")
        os.close(fd)
        return read_file("alice/locked")

    assert as_user(ALICE, of_alice, create_and_write) == "own"


def test_set_ids_and_capabilities_go_where_the_one_who_mounted_may_not_take_them_away(root: Path, of_alice: Path) -> None:
    write_file(str(root / "f"))
    (root / "f").chmod(0o6777)
    os.setxattr(root / "f", CAPABILITY, CAP_NET_RAW)
    assert as_user(ALICE, of_alice, lambda: write_over("alice/f")) is None
    assert read_file(str(root / "f")) == "other"
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o777
    fails_with(errno.ENODATA, os.getxattr, root / "f", CAPABILITY)


def test_the_umask_is_taken_off_unless_there_is_a_default_acl(root: Path) -> None:
    (root / "plain").mkdir()
    (root / "acl").mkdir()
    os.setxattr(root / "acl", DEFAULT_ACL, ModelAcl(7, 7, 5).attribute())

    def create() -> None:
        os.umask(0o077)
        write_file("f", 0o666)
        os.mkdir("d", 0o777)
        os.mkfifo("p", 0o666)

    for directory, modes in (("plain", (0o600, 0o700, 0o600)), ("acl", (0o664, 0o775, 0o664))):
        assert as_user(User(0, 0), root / directory, create) is None
        assert tuple(stat.S_IMODE((root / directory / name).stat().st_mode) for name in "fdp") == modes
    assert os.getxattr(root / "acl" / "d", DEFAULT_ACL) == ModelAcl(7, 7, 5).attribute()


def test_acls_decide_and_the_mode_follows(root: Path) -> None:
    assert as_user(ALICE, root, lambda: write_file("f", 0o600)) is None
    acl = ModelAcl(6, 0, 0, {BOB.uid: 4}, {}, 4).attribute()
    assert as_user(BOB, root, lambda: os.setxattr("f", ACCESS_ACL, acl)) == errno.EPERM
    assert as_user(BOB, root, lambda: read_file("f")) == errno.EACCES
    assert as_user(ALICE, root, lambda: os.setxattr("f", ACCESS_ACL, acl)) is None
    assert os.getxattr(root / "f", ACCESS_ACL) == acl
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640
    assert as_user(BOB, root, lambda: read_file("f")) == "bytes"
    assert as_user(CAROL, root, lambda: read_file("f")) == errno.EACCES
    (root / "f").chmod(0o600)
    assert as_user(BOB, root, lambda: read_file("f")) == errno.EACCES
    os.removexattr(root / "f", ACCESS_ACL)
    fails_with(errno.ENODATA, os.getxattr, root / "f", ACCESS_ACL)


def test_an_acl_that_another_mount_sets_counts_at_once(root: Path, two: Path) -> None:
    write_file(str(root / "f"), 0o600)
    for bits, answer in ((4, "bytes"), (0, errno.EACCES), (4, "bytes")):
        assert (two / "f").stat().st_size == 5
        os.setxattr(root / "f", ACCESS_ACL, ModelAcl(6, 0, 0, {BOB.uid: bits}, {}, 4).attribute())
        assert as_user(BOB, two, lambda: read_file("f")) == answer
    os.removexattr(root / "f", ACCESS_ACL)
    (root / "f").chmod(0o600)
    assert as_user(BOB, two, lambda: read_file("f")) == errno.EACCES


def test_extended_attributes(root: Path, two: Path) -> None:
    path = root / "f"
    write_file(str(path))
    fails_with(errno.ENODATA, os.getxattr, path, "user.color")
    os.setxattr(path, "user.color", b"red", os.XATTR_CREATE)
    fails_with(errno.EEXIST, os.setxattr, path, "user.color", b"blue", os.XATTR_CREATE)
    fails_with(errno.ENODATA, os.setxattr, path, "user.size", b"1", os.XATTR_REPLACE)
    assert os.getxattr(two / "f", "user.color") == b"red"
    os.setxattr(two / "f", "user.color", b"green", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.color") == b"green"
    large = os.urandom(65536)
    os.setxattr(path, "user.large", large)
    assert os.getxattr(path, "user.large") == large
    assert os.listxattr(path) == ["user.color", "user.large"]
    os.setxattr(path, "trusted.t", b"")
    assert os.listxattr(path) == ["trusted.t", "user.color", "user.large"]
    assert as_user(BOB, root, lambda: os.listxattr("f")) == ["user.color", "user.large"]
    assert as_user(BOB, root, lambda: os.setxattr("f", "user.color", b"mine")) == errno.EACCES
    assert path.read_bytes() == b"bytes"
    for name in ("user.color", "user.large", "trusted.t"):
        os.removexattr(path, name)
    fails_with(errno.ENODATA, os.removexattr, path, "user.color")
    assert os.listxattr(two / "f") == []
    os.symlink("f", root / "l")
    fails_with(errno.EPERM, lambda: os.setxattr(root / "l", "user.x", b"", follow_symlinks=False))
    os.setxattr(root / "l", "trusted.x", b"own", follow_symlinks=False)
    assert os.listxattr(root / "l", follow_symlinks=False) == ["trusted.x"]
    assert os.listxattr(root / "l") == []


def test_a_capability_goes_when_its_file_is_written(root: Path, two: Path) -> None:
    path = root / "f"
    for write in (path, two / "f"):
        path.write_bytes(b"x")
        os.setxattr(path, CAPABILITY, CAP_NET_RAW)
        assert os.getxattr(two / "f", CAPABILITY) == CAP_NET_RAW
        with write.open("r+b") as file:
            file.write(b"y")
        fails_with(errno.ENODATA, os.getxattr, path, CAPABILITY)
        fails_with(errno.ENODATA, os.getxattr, two / "f", CAPABILITY)


def test_a_capability_goes_when_another_user_writes_or_cuts(root: Path) -> None:
    for name, change in (("w", lambda: write_over("w")), ("t", lambda: os.truncate("t", 1))):
        write_file(str(root / name))
        (root / name).chmod(0o666)
        os.setxattr(root / name, CAPABILITY, CAP_NET_RAW)
        assert as_user(BOB, root, lambda name=name: os.removexattr(name, CAPABILITY)) == errno.EPERM
        assert as_user(BOB, root, change) is None
        fails_with(errno.ENODATA, os.getxattr, root / name, CAPABILITY)


@pytest.mark.parametrize("size", [5, 100_000])
def test_a_capability_that_is_set_after_the_last_write_stays(root: Path, size: int) -> None:
    """As archivers do it."""
    with (root / "f").open("wb") as file:
        file.write(b"x" * size)
        file.flush()
        os.setxattr(file.fileno(), CAPABILITY, CAP_NET_RAW)
    assert os.getxattr(root / "f", CAPABILITY) == CAP_NET_RAW
    assert (root / "f").stat().st_size == size


def test_a_file_without_a_name_has_attributes_and_is_its_makers(root: Path) -> None:
    def make() -> list[str]:
        os.umask(0o027)
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o666)
        os.write(fd, b"bytes")
        os.setxattr(fd, "user.color", b"red")
        os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=fd, follow_symlinks=True)  # by linkat(2), which follows
        os.close(fd)
        return os.listxattr("named")

    assert as_user(ALICE, root, make) == ["user.color"]
    found = (root / "named").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode), found.st_size) == (ALICE.uid, 0o640, 5)


def test_special_files(root: Path) -> None:
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o600, os.makedev(4095, 1048575))
    os.mknod(root / "plain", stat.S_IFREG | 0o640)
    bound = socket.socket(socket.AF_UNIX)
    here = os.open(root, os.O_RDONLY)
    bound.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    with bound, os.scandir(root) as listed:
        kinds = {entry.name: stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) for entry in listed}
    assert kinds == {
        "fifo": stat.S_IFIFO,
        "null": stat.S_IFCHR,
        "disk": stat.S_IFBLK,
        "plain": stat.S_IFREG,
        "socket": stat.S_IFSOCK,
    }
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "disk").stat().st_rdev == os.makedev(4095, 1048575)
    assert as_user(ALICE, root, lambda: os.mknod("mine", stat.S_IFCHR | 0o666, os.makedev(1, 3))) == errno.EPERM
    writer = threading.Thread(target=lambda: (root / "fifo").write_bytes(b"through the kernel"))
    writer.start()
    assert (root / "fifo").read_bytes() == b"through the kernel"
    writer.join()
    for name in kinds:
        (root / name).unlink()
    assert os.listdir(root) == []


def test_names_are_bytes(root: Path, two: Path) -> None:
    base, other = os.fsencode(root) + b"/", os.fsencode(two) + b"/"
    names = [b"caf\xe9", b"\xff\xfe", b"\xe9" * name_bytes_max, "é".encode()]
    for name in names:
        Path(os.fsdecode(base + name)).write_bytes(name)
    assert sorted(os.listdir(os.fsencode(two))) == sorted(names)
    for name in names:
        assert Path(os.fsdecode(other + name)).read_bytes() == name
    os.symlink(b"caf\xe9", base + b"l\xff")
    assert os.readlink(other + b"l\xff") == b"caf\xe9"
    assert Path(os.fsdecode(other + b"l\xff")).read_bytes() == b"caf\xe9"
    os.rename(other + b"caf\xe9", other + b"caf\xea")
    assert not os.path.exists(base + b"caf\xe9")
    os.unlink(base + b"caf\xea")
    fails_with(errno.ENAMETOOLONG, os.mkdir, base + b"\xe9" * (name_bytes_max + 1))
    os.setxattr(base + b"\xff\xfe", b"user.\xff", b"v")
    assert os.listxattr(other + b"\xff\xfe") == ["user.\udcff"]
