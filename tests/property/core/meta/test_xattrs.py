"""Extended attributes and ACLs equal dumb ones, whatever is done to files, by whom, and however often: the machine of
`test_namespace`, whose users now have ACLs between them, with more rules."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from fs3.base.ids import InodeId
from fs3.core.meta.errors import MetaError
from fs3.core.meta.ops.get_xattr import get_xattr
from fs3.core.meta.ops.list_xattr import list_xattr
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.open import open_file
from fs3.core.meta.ops.remove_xattr import remove_xattr
from fs3.core.meta.ops.set_xattr import set_xattr
from fs3.core.meta.rows import find_inode
from fs3.core.meta.xattrs import find_value, list_names
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import GetXattr, ListXattr, XattrMode
from fs3.sim.acl_model import ModelAcl
from fs3.sim.namespace_model import ModelError
from fs3.sim.xattr_model import ACCESS_ACL, DEFAULT_ACL, AttributeModel
from tests.property.core.meta.test_namespace import MODES, MOSTLY_THERE, SPOTS, USER, USERS, Namespaces

BITS = st.integers(0, 7)
IDS = st.dictionaries(st.sampled_from([0, 1000, 1001, 1002]), BITS, max_size=2)


@st.composite
def acls(draw: Any) -> ModelAcl:
    """An ACL of some of the users and groups that there are."""
    users, groups = draw(IDS), draw(IDS)
    mask = draw(BITS if users or groups else st.none() | BITS)
    return ModelAcl(draw(BITS), draw(BITS), draw(BITS), users, groups, mask)


ACLS = st.none() | acls() | acls() | acls()
ACL_NAMES = st.sampled_from([ACCESS_ACL, DEFAULT_ACL])
NAMES = st.sampled_from([b"user.a", b"user.b", b"user.\xff", b"trusted.a", b"security.a", b"security.capability"])
VALUES = st.binary(min_size=1, max_size=4)
XATTR_MODES = st.sampled_from([XattrMode.SET, XattrMode.SET, XattrMode.SET, *XattrMode])


class Attributes(Namespaces):
    model: AttributeModel

    def __init__(self) -> None:
        super().__init__(AttributeModel())
        root, given = USERS[0], XattrMode.SET
        shared = ModelAcl(7, 5, 1, {1001: 7}, {1000: 6}, 7)
        for path in ("a", "b", "a/b"):
            for name in (ACCESS_ACL, DEFAULT_ACL):
                self.set_acl(root, path, name, shared, given, True)
        for path, permissions in (("a/a", 4), ("a/b/a", 6), ("b/a/a", 6)):
            self.set_acl(root, path, ACCESS_ACL, ModelAcl(6, 0, 0, {}, {1000: permissions}, 6), given, True)
            for name in (b"security.capability", b"trusted.a", b"user.a"):
                self.set_xattr(root, path, name, b"1", given, True)

    @rule(user=USER, spot=MOSTLY_THERE, name=ACL_NAMES, acl=ACLS, mode=XATTR_MODES, follow=st.booleans())
    def set_acl(self, user: User, spot: Any, name: bytes, acl: ModelAcl | None, mode: XattrMode, follow: bool) -> None:
        path = self.path(spot)
        value = b"" if acl is None else acl.attribute()
        model = lambda: self.model.set_acl(user, path, name, acl, mode, follow)  # noqa: E731
        self.identify(self.twice(model, set_xattr, PathRef(path=path), name, value, mode, follow, user=user))

    @rule(user=USER, spot=MOSTLY_THERE, name=NAMES, value=VALUES, mode=XATTR_MODES, follow=st.booleans())
    def set_xattr(self, user: User, spot: Any, name: bytes, value: bytes, mode: XattrMode, follow: bool) -> None:
        path = self.path(spot)
        model = lambda: self.model.set_xattr(user, path, name, value, mode, follow)  # noqa: E731
        self.identify(self.twice(model, set_xattr, PathRef(path=path), name, value, mode, follow, user=user))

    @rule(user=USER, spot=MOSTLY_THERE, name=ACL_NAMES | NAMES, follow=st.booleans())
    def remove_xattr(self, user: User, spot: Any, name: bytes, follow: bool) -> None:
        path = self.path(spot)
        model = lambda: self.model.remove_xattr(user, path, name, follow)  # noqa: E731
        self.identify(self.twice(model, remove_xattr, PathRef(path=path), name, follow, user=user))

    @rule(user=USER, spot=SPOTS, mode=MODES, umask=st.sampled_from([0, 0o022, 0o077]), parents=st.booleans())
    def mkdir_with_umask(self, user: User, spot: Any, mode: int, umask: int, parents: bool) -> None:
        path = self.path(spot)
        model = lambda: self.model.mkdir(user, path, mode, parents, umask)  # noqa: E731
        options = {"mode": mode, "parents": parents, "umask": umask}
        if self.twice(model, mkdir, PathRef(path=path), user=user, **options):
            self.identify_directories()

    @rule(user=USER, spot=SPOTS, mode=MODES, umask=st.sampled_from([0, 0o022, 0o077]))
    def create_with_umask(self, user: User, spot: Any, mode: int, umask: int) -> None:
        path = self.path(spot)
        options = {"create": True, "exclusive": True, "mode": mode, "umask": umask}
        model = lambda: self.model.open(user, path, truncate=False, **options)  # noqa: E731
        found = self.twice(model, open_file, PathRef(path=path), user=user, write=True, **options)
        if found:
            opened, node = found
            self.identify((opened.inode, node))
            self.model.sessions.append((node.content, opened.session, False))

    @rule(user=USER, directory=st.sampled_from(["a", "b", "a/b"]), spot=MOSTLY_THERE, mode=MODES)
    def replace_as_a_whole(self, user: User, directory: str, spot: Any, mode: int) -> None:
        count = len(self.model.sessions)
        self.open_unnamed(user, directory, mode)
        if len(self.model.sessions) > count:
            self.close(-1, 1, spot, False, user)

    @rule(user=USER, spot=MOSTLY_THERE, name=ACL_NAMES | NAMES, follow=st.booleans())
    def look(self, user: User, spot: Any, name: bytes, follow: bool) -> None:
        path = self.path(spot)
        ctx = self.context(user, 0)
        for request, verb, expected in (
            (GetXattr(PathRef(path=path), name, follow), get_xattr, lambda: self.model.get_xattr(user, path, name, follow)),
            (ListXattr(PathRef(path=path), follow), list_xattr, lambda: self.model.list_xattr(user, path, follow)),
        ):
            try:
                right: Any = expected()
            except ModelError as fail:
                right = fail.code
            try:
                answer: Any = self.see(lambda txn, verb=verb, request=request: verb(txn, ctx, request))
            except MetaError as error:
                answer = error.code
            assert answer == right

    def teardown(self) -> None:
        for name in self.model.attributes_for(USERS[0], self.model.root):
            self.act(remove_xattr, PathRef(), name)
        super().teardown()

    @invariant()
    def all_have_the_same_attributes(self) -> None:
        for node in {id(node): node for _, node in self.model.list_paths()}.values():
            expected = self.model.attributes_for(USERS[0], node)

            async def read(txn: Any, number: int = node.id) -> dict[bytes, bytes]:
                inode = await find_inode(txn, InodeId(number))
                assert inode is not None
                return {name: await find_value(txn, inode, name) or b"" for name in await list_names(txn, inode)}

            assert self.see(read) == expected


TestAttributes = Attributes.TestCase
TestAttributes.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
