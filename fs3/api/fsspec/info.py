"""What fsspec is told of a file, directory or symlink."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.units import SECOND
from fs3.model.inode import Inode, InodeType

Info = dict[str, Any]

_FILE, _DIRECTORY, _SYMLINK = InodeType.FILE, InodeType.DIRECTORY, InodeType.SYMLINK


def info_of(path: str, inode: Inode, behind: Inode | FS3Error | None = None) -> Info:
    """The info of what `path` names. `behind` is what a symlink leads to; an error when it leads nowhere.

    As with local files, type, size, times and ETag of a symlink are those of what it leads to. `mtime` and `created` are seconds
    since the epoch, which pyarrow, datasets and dask take; `ETag` is another one after every change of content or attributes.
    """
    link = inode.type is _SYMLINK
    seen = behind if isinstance(behind, Inode) else inode
    is_file = seen.type is _FILE
    # Large directories are made of these: one dictionary, and identity of the type, since an Enum's members hash slowly.
    info: Info = {
        "name": path,
        "size": seen.length if is_file else 0,
        "type": "file" if is_file else "directory" if seen.type is _DIRECTORY else "other",
        "mtime": seen.mtime_ns / SECOND,
        "created": seen.birth_ns / SECOND,
        "ETag": f"{seen.id:x}-{seen.change:x}",
        "ino": seen.id,
        "mode": seen.mode,
        "uid": seen.uid,
        "gid": seen.gid,
        "nlink": seen.nlink,
        "islink": link,
    }
    if link:
        info["destination"] = inode.link_target
    return info


def moment(seconds: float) -> datetime:
    """A time of an info as fsspec's `created` and `modified` give it: aware, UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC)
