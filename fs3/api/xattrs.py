"""Extended attributes through the native client: what `os.getxattr` and its relatives do, as coroutines."""

from __future__ import annotations

from fs3.api.file import File
from fs3.client.meta.client import MetaClient
from fs3.model.inode import Inode
from fs3.model.namespace import PathRef
from fs3.model.requests import GetXattr, ListXattr, RemoveXattr, SetXattr, XattrMode

XATTR_CREATE = XattrMode.CREATE
XATTR_REPLACE = XattrMode.REPLACE

Names = list[str]


class XattrMethods:
    """Of `Client`. Attributes are those of a path, or of an open file. Names have their namespace in front, "user.color"; bytes
    of a name that are not UTF-8 are escaped as in the names of `os`."""

    meta: MetaClient

    async def get_xattr(self, where: str | File, name: str | bytes, *, follow: bool = True) -> bytes:
        """The value of an attribute. OSError ENODATA when there is none of that name, EOPNOTSUPP for an unknown namespace."""
        return await self.meta.ask(GetXattr(_ref_of(where), _encoded(name), follow))

    async def set_xattr(
        self, where: str | File, name: str | bytes, value: bytes, mode: XattrMode = XattrMode.SET, *, follow: bool = True
    ) -> Inode:
        """Set an attribute. With XATTR_CREATE EEXIST when it is there, with XATTR_REPLACE ENODATA when it is not. E2BIG for more
        than 64 KiB, ENOSPC beyond what one file may have."""
        return await self.meta.ask(SetXattr(_ref_of(where), _encoded(name), bytes(value), XattrMode(mode), follow))

    async def list_xattr(self, where: str | File, *, follow: bool = True) -> Names:
        """The names of all attributes that this user may know of, in the order of their bytes."""
        names = await self.meta.ask(ListXattr(_ref_of(where), follow))
        return [name.decode("utf-8", "surrogateescape") for name in names]

    async def remove_xattr(self, where: str | File, name: str | bytes, *, follow: bool = True) -> Inode:
        """Remove an attribute. ENODATA when there is none of that name."""
        return await self.meta.ask(RemoveXattr(_ref_of(where), _encoded(name), follow))


def _ref_of(where: str | File) -> PathRef:
    return PathRef(where.inode.id, "") if isinstance(where, File) else PathRef.of(where)


def _encoded(name: str | bytes) -> bytes:
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else bytes(name)
