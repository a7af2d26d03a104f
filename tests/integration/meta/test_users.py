"""Many users of one client: each with permissions of its own, and all else in common."""

import pytest

from fs3.base.errors import InvalidArgument
from fs3.model.inode import User
from fs3.model.namespace import PathRef
from fs3.model.requests import Close, Mkdir, Open, Stat, Sync
from fs3.wire.meta import groups_max

BOB = User(1001, 1001, (50,))
ROOT = User(0, 0)


async def test_each_user_has_permissions_and_owns_what_it_creates(cluster, meta):
    bob = meta.as_user(BOB)
    await meta.mkdir("open", mode=0o777)
    made = await bob.ask(Mkdir(PathRef.of("open/bobs"), mode=0o700))
    assert (made.uid, made.gid) == (1001, 1001)
    with pytest.raises(PermissionError):
        await meta.stat("open/bobs/x")
    with pytest.raises(PermissionError):
        await bob.ask(Mkdir(PathRef.of("bobs")))
    assert (meta.user.uid, bob.user.uid) == (1000, 1001)


async def test_supplementary_groups_count(cluster, meta):
    root = meta.as_user(ROOT)
    await root.ask(Mkdir(PathRef.of("shared"), mode=0o770))
    await root.setattr("shared", gid=50)
    assert await meta.as_user(BOB).ask(Mkdir(PathRef.of("shared/bobs")))
    with pytest.raises(PermissionError):
        await meta.as_user(User(1001, 1001)).ask(Mkdir(PathRef.of("shared/others")))


async def test_numbers_of_requests_are_one_sequence(cluster, meta):
    root = meta.as_user(ROOT)
    for number in range(4):
        await (meta, root)[number % 2].ask(Mkdir(PathRef.of(f"d{number}")))
    assert (await meta.stat("")).length == 4, "no request was taken for a repetition of another one"


async def test_what_one_user_opened_another_one_writes_and_closes(cluster, meta):
    opened = await meta.open("f", write=True, create=True, mode=0o600)
    bob = meta.as_user(BOB)
    session = opened.inode.content_id, opened.session
    assert (await bob.ask(Sync(*session, 10, True))).length == 10
    assert (await bob.ask(Close(*session, 20, True))).length == 20
    with pytest.raises(PermissionError):
        await bob.ask(Open(PathRef.of("f")))


async def test_the_sessions_of_all_users_are_kept_alive_together(cluster, meta):
    bob = meta.as_user(BOB)
    await meta.mkdir("open", mode=0o777)
    opened = await bob.ask(Open(PathRef.of("open/f"), write=True, create=True))
    assert meta._sessions is bob._sessions
    assert meta._sessions._open == {opened.session}
    await bob.close()
    assert not meta._sessions._stopped, "a view closes nothing"
    await meta.close()
    assert bob._sessions._stopped


async def test_a_batch_is_of_the_user_who_sends_it(cluster, meta):
    await meta.mkdir("alices", mode=0o700)
    bob = meta.as_user(BOB)
    found = await bob.batch([Stat(PathRef.of("alices/x")), Stat(PathRef.of("alices"))])
    assert isinstance(found[0], PermissionError)
    assert found[1].uid == 1000


@pytest.mark.parametrize(
    ("user", "named"),
    [
        (User(-1, 0), "uid"),
        (User(0, 1 << 32), "gid"),
        (User(0, 0, (1, -1)), "groups"),
        (User(0, 0, tuple(range(groups_max + 1))), "at most 1024"),
    ],
)
async def test_what_is_no_user_is_refused_before_anything_is_asked(cluster, meta, user, named):
    with pytest.raises(InvalidArgument, match=named):
        meta.as_user(user)
    assert meta.as_user(User(0, 0, tuple(range(groups_max)))).user.groups[-1] == groups_max - 1
