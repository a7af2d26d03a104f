"""The dumb namespace with extended attributes, by the words of xattr(7) and acl(5)."""

from __future__ import annotations

from typing import Final

from fs3.base.status import Code
from fs3.model.inode import User
from fs3.model.requests import XattrMode
from fs3.sim.acl_model import ModelAcl
from fs3.sim.namespace_model import ModelError, ModelNode, NamespaceModel

ACCESS_ACL: Final = b"system.posix_acl_access"
DEFAULT_ACL: Final = b"system.posix_acl_default"


class AttributeModel(NamespaceModel):
    """Names are those of a known namespace, and ACLs are whole: what is malformed has tests of its own."""

    def set_acl(self, user: User, path: str, name: bytes, acl: ModelAcl | None, mode: XattrMode, follow: bool) -> ModelNode:
        """An ACL of either kind; None takes it away."""
        node = self.find(user, path, follow)
        if name == DEFAULT_ACL and node.kind == "f" and acl is not None:
            raise ModelError(Code.ACCESS)
        self._check_may_set(user, node, name)
        self._check_mode(node, name, mode)
        if name == DEFAULT_ACL:
            node.default_acl = acl
        elif acl is None:
            node.acl = None
        else:
            node.mode = node.mode & 0o7000 | acl.mode()
            if user.uid and node.gid not in (user.gid, *user.groups):
                node.mode &= ~0o2000
            node.acl = acl if acl.is_more_than_a_mode() else None
        return node

    def set_xattr(self, user: User, path: str, name: bytes, value: bytes, mode: XattrMode, follow: bool) -> ModelNode:
        """Any other."""
        node = self.find(user, path, follow)
        self._check_may_set(user, node, name)
        self._check_mode(node, name, mode)
        node.attributes[name] = value
        return node

    def remove_xattr(self, user: User, path: str, name: bytes, follow: bool) -> ModelNode:
        """Of any kind."""
        node = self.find(user, path, follow)
        self._check_may_set(user, node, name)
        if name == ACCESS_ACL:
            node.acl = None
        elif name == DEFAULT_ACL:
            node.default_acl = None
        elif name not in node.attributes:
            raise ModelError(Code.NO_ATTRIBUTE)
        else:
            del node.attributes[name]
        return node

    def get_xattr(self, user: User, path: str, name: bytes, follow: bool) -> bytes:
        """The value."""
        node = self.find(user, path, follow)
        if name.startswith(b"user."):
            if node.kind not in "fd":
                raise ModelError(Code.NO_ATTRIBUTE)
            if not self.may_access(user, node, 4):
                raise ModelError(Code.ACCESS)
        if name not in self.attributes_for(user, node):
            raise ModelError(Code.NO_ATTRIBUTE)
        return self.attributes_for(user, node)[name]

    def list_xattr(self, user: User, path: str, follow: bool) -> list[bytes]:
        """The names."""
        return sorted(self.attributes_for(user, self.find(user, path, follow)))

    def attributes_for(self, user: User, node: ModelNode) -> dict[bytes, bytes]:
        """All that a user may know of."""
        found = dict(node.attributes)
        if node.acl is not None:
            found[ACCESS_ACL] = node.acl.attribute()
        if node.default_acl is not None:
            found[DEFAULT_ACL] = node.default_acl.attribute()
        return {name: value for name, value in found.items() if user.uid == 0 or not name.startswith(b"trusted.")}

    def _check_may_set(self, user: User, node: ModelNode, name: bytes) -> None:
        owns = user.uid in (0, node.uid)
        if name in (ACCESS_ACL, DEFAULT_ACL):
            if node.kind == "l":
                raise ModelError(Code.UNSUPPORTED)
            if not owns:
                raise ModelError(Code.PERMISSION)
        elif not name.startswith(b"user."):
            if user.uid != 0:
                raise ModelError(Code.PERMISSION)
        elif node.kind not in "fd" or (node.kind == "d" and node.mode & 0o1000 and not owns):
            raise ModelError(Code.PERMISSION)
        elif not self.may_access(user, node, 2):
            raise ModelError(Code.ACCESS)

    def _check_mode(self, node: ModelNode, name: bytes, mode: XattrMode) -> None:
        is_there = name in self.attributes_for(User(0, 0), node)
        if mode is XattrMode.CREATE and is_there:
            raise ModelError(Code.EXISTS)
        if mode is XattrMode.REPLACE and not is_there:
            raise ModelError(Code.NO_ATTRIBUTE)
