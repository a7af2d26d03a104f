"""What fsspec is told of an inode."""

from __future__ import annotations

import datetime

from msgspec.structs import replace

from fs3.api.fsspec.info import info_of, moment
from fs3.base.errors import error
from fs3.base.ids import InodeId, TableId
from fs3.base.status import Code
from fs3.model.inode import Inode, InodeType, Layout

SECOND = 1_000_000_000
FILE = Inode(
    InodeId(0xAB), InodeType.FILE, 0o640, 7, 8, 2, 100, 1 * SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND, 9, InodeId(0),
    Layout(TableId(1), 1 << 20, 1),
)  # fmt: skip
LINK = replace(FILE, id=InodeId(1), type=InodeType.SYMLINK, length=6, target="behind", change=1)


def test_a_file() -> None:
    assert info_of("/x", FILE) == {
        "name": "/x", "size": 100, "type": "file", "mtime": 2.0, "created": 4.0, "ETag": "ab-9", "ino": 0xAB, "mode": 0o640,
        "uid": 7, "gid": 8, "nlink": 2, "islink": False,
    }  # fmt: skip


def test_a_directory_has_no_size() -> None:
    info = info_of("/d", replace(FILE, type=InodeType.DIRECTORY))
    assert (info["type"], info["size"]) == ("directory", 0)


def test_a_symlink_is_described_by_what_it_leads_to() -> None:
    info = info_of("/l", LINK, FILE)
    assert (info["type"], info["size"], info["ETag"]) == ("file", 100, "ab-9")
    assert (info["islink"], info["destination"]) == (True, "behind")
    broken = info_of("/l", LINK, error(Code.NOT_FOUND, "gone", "/behind"))
    assert (broken["type"], broken["size"], broken["islink"], broken["ETag"]) == ("other", 0, True, "1-1")


def test_moments_know_their_zone() -> None:
    assert moment(86400.5) == datetime.datetime(1970, 1, 2, 0, 0, 0, 500_000, tzinfo=datetime.UTC)
