"""Extended attributes through fsspec."""

from __future__ import annotations

from fs3.api.fsspec.base import FS3Base
from fs3.model.requests import XattrMode

Names = list[str]


class AttributeMethods(FS3Base):
    """As `os.getxattr` and its relatives, and named like them, as those of s3fs and gcsfs are. Names have their namespace in
    front: "user.color"."""

    async def _getxattr(self, path: str, name: str) -> bytes:
        """The value of an attribute. OSError ENODATA when there is none of that name."""
        return await (await self._client()).get_xattr(self._strip_protocol(path), name)

    async def _setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        """Set an attribute. `flags`: `os.XATTR_CREATE` or `os.XATTR_REPLACE`."""
        await (await self._client()).set_xattr(self._strip_protocol(path), name, value, XattrMode(flags))

    async def _listxattr(self, path: str) -> Names:
        """The names of all attributes that this user may know of."""
        return await (await self._client()).list_xattr(self._strip_protocol(path))

    async def _removexattr(self, path: str, name: str) -> None:
        """Remove an attribute. OSError ENODATA when there is none of that name."""
        await (await self._client()).remove_xattr(self._strip_protocol(path), name)
