"""Requests that no client of ours sends: each is refused with an error that names the field, and harms nobody."""

import pytest

from fs3.base.errors import FS3Error
from fs3.base.limits import batch_items_max
from fs3.base.status import Code
from fs3.wire.meta import groups_max
from fs3.wire.methods import META

CALLER = {"client_id": b"x" * 16, "request_seq": 1, "uid": 1000, "gid": 1000}


async def ask(cluster, method, **fields):
    fields.setdefault("caller", CALLER)
    channel = cluster.wire.channel(["tcp://meta-1:1"])
    return (await channel.start(method, method.request(**fields), timeout_ns=1)).message


@pytest.mark.parametrize(
    ("method", "fields", "code", "named"),
    [
        ("Stat", {"caller": {"client_id": b"short"}}, Code.INVALID, "caller.client_id: 5 bytes"),
        ("Stat", {"caller": {}}, Code.INVALID, "caller.client_id: 0 bytes"),
        ("StatFs", {"caller": {}}, Code.INVALID, "caller.client_id"),
        ("BatchStat", {"caller": {}}, Code.INVALID, "caller.client_id"),
        ("Batch", {"caller": {}}, Code.INVALID, "caller.client_id"),
        ("Stat", {"caller": {**CALLER, "groups": [1] * (groups_max + 1)}}, Code.INVALID, "caller.groups"),
        ("Mkdir", {"caller": {**CALLER, "request_seq": 0}, "path": {"path": "d"}}, Code.INVALID, "caller.request_seq"),
        ("Mkdir", {"path": {"path": "d"}, "mode": 0o10000}, Code.INVALID, "mode"),
        ("Mkdir", {"path": {"path": "d"}, "layout": {"chunk_size": 5}}, Code.INVALID, "layout.chunk_size"),
        ("Mkdir", {"path": {"path": "d"}, "layout": {"table_id": 99}}, Code.NO_TABLE, "99"),
        ("Mkdir", {"path": {"path": "d", "parent": 1 << 60}}, Code.STALE, "no inode"),
        ("Open", {"path": {"path": "f"}, "create": True, "layout": {"chains": [1]}}, Code.INVALID, "layout.chains"),
        ("Open", {"path": {"path": "f"}, "create": True, "mode": 0xFFFFFFFF}, Code.INVALID, "mode"),
        ("Close", {"session_id": 3}, Code.INVALID, "content_id"),
        ("Close", {"content_id": 1, "session_id": 3}, Code.NO_SESSION, "session 3"),
        ("Sync", {"content_id": 1 << 63, "session_id": 3}, Code.STALE, "no inode"),
        ("Truncate", {"content_id": 2, "length": 1 << 63}, Code.STALE, "gone"),
        ("Truncate", {"length": 1}, Code.INVALID, "content_id"),
        ("Remove", {"path": {"path": "x"}, "kind": 17}, Code.INVALID, "kind"),
        ("Rename", {"source": {"path": "x"}, "target": {"path": "y"}, "mode": 17}, Code.INVALID, "mode"),
        ("List", {"after": "x" * 300}, Code.INVALID, "after"),
        ("Symlink", {"path": {"path": "s"}, "target": ""}, Code.NOT_FOUND, ""),
        ("SetAttr", {"path": {"path": ""}, "mode": 1 << 20}, Code.INVALID, "mode"),
        ("BatchStat", {"paths": ["x"] * (batch_items_max + 1)}, Code.TOO_LARGE, "paths"),
        ("Batch", {"items": [{"stat": {}}] * (batch_items_max + 1)}, Code.TOO_LARGE, "items"),
    ],
)
async def test_bad_requests_are_refused_by_name(cluster, method, fields, code, named):
    with pytest.raises(FS3Error) as raised:
        await ask(cluster, getattr(META, method), **fields)
    assert raised.value.code is code
    assert named in raised.value.strerror
    assert (await ask(cluster, META.Stat)).inode.length == 0, "and nothing has changed"


async def test_bad_items_of_a_batch_are_refused_one_by_one(cluster):
    mkdir = {"caller": {"request_seq": 7}, "path": {"path": "d"}, "mode": 0o755}
    reply = await ask(
        cluster,
        META.Batch,
        items=[
            {"mkdir": mkdir},
            {},
            {"mkdir": {"path": {"path": "e"}}},
            {"remove": {"kind": 9}},
            {"stat": {"path": {"path": "d"}}},
        ],
    )
    assert [result.code for result in reply.results] == [0, Code.INVALID, Code.INVALID, Code.INVALID, 0]
    assert "mkdir.caller.request_seq" in reply.results[2].message
    assert reply.results[4].inode.inode.id == reply.results[0].inode.inode.id


async def test_a_number_that_was_used_for_something_else(cluster):
    await ask(cluster, META.Mkdir, path={"path": "d"}, mode=0o755)
    with pytest.raises(FS3Error) as raised:
        await ask(cluster, META.Symlink, path={"path": "s"}, target="d")
    assert raised.value.code is Code.PROTOCOL


async def test_a_bug_in_an_operation_fails_its_call_only(cluster, monkeypatch, caplog):
    real = cluster.kv.submit

    async def broken(txn):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cluster.kv, "submit", lambda op, done: real(broken, done))
    with pytest.raises(FS3Error, match="ZeroDivisionError: a bug") as raised:
        await ask(cluster, META.Mkdir, path={"path": "d"}, mode=0o755)
    assert raised.value.code is Code.INTERNAL
    assert "a bug" in caplog.text
    monkeypatch.undo()
    await ask(cluster, META.Mkdir, path={"path": "d"}, mode=0o755)


async def test_the_store_is_full(cluster, monkeypatch):
    submit = cluster.kv.submit
    monkeypatch.setattr(cluster.kv, "submit", lambda op, done: done(None, FS3Error(Code.NO_SPACE, "no space left")))
    with pytest.raises(FS3Error) as raised:
        await ask(cluster, META.Mkdir, path={"path": "d"}, mode=0o755)
    assert raised.value.code is Code.NO_SPACE
    monkeypatch.setattr(cluster.kv, "submit", submit)
    await ask(cluster, META.Mkdir, path={"path": "d"}, mode=0o755)


async def test_every_method_has_a_handler(cluster):
    assert set(cluster.service.bindings()) == set(META.methods)
