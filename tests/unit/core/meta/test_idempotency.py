"""A repeated request has no further effect and the first answer; old requests are forgotten in small steps."""

import pytest

from fs3.base.ids import ClientId
from fs3.base.limits import requests_remembered_ns
from fs3.base.status import Code
from fs3.core.meta import keys
from fs3.core.meta.client_liveness import find_owner
from fs3.core.meta.idempotency import sweep
from fs3.core.meta.ops.mkdir import mkdir
from fs3.core.meta.ops.remove import remove
from fs3.core.meta.ops.stat import stat
from fs3.model.namespace import RemoveKind

FIRST = ClientId(bytes(16))
LAST = ClientId(b"\xff" * 16)


def remembered(space):
    return [key for key, _ in space.rows() if key.startswith(keys.REQUEST)]


def swept(space, wall_ns, limit=1000, start=FIRST):
    """Sweeps to the end: (rows forgotten, steps taken)."""
    client, forgotten, steps = start, 0, 0
    while client is not None:
        client, count = space.raw(lambda txn, client=client: sweep(txn, wall_ns, client, limit))
        assert count <= limit
        forgotten += count
        steps += 1
        assert steps < 10_000
    return forgotten, steps


def test_without_a_number_nothing_is_remembered(space):
    space.do(mkdir, "d")
    space.refused(Code.EXISTS, mkdir, "d")
    assert remembered(space) == []


def test_requests_are_told_apart_by_client_and_number(space):
    first = space.do(mkdir, "d", seq=1)
    assert space.do(mkdir, "d", seq=1) == first
    space.refused(Code.EXISTS, mkdir, "d", seq=2)
    space.refused(Code.EXISTS, mkdir, "d", seq=1, client=space.other)
    assert len(remembered(space)) == 1


def test_a_refused_request_is_asked_anew(space):
    space.refused(Code.NOT_FOUND, mkdir, "d/e", seq=1)
    space.do(mkdir, "d", seq=2)
    assert space.do(mkdir, "d/e", seq=1) == space.stat("d/e")


def test_the_first_answer_is_given_even_when_it_is_no_longer_true(space):
    made = space.do(mkdir, "d", seq=1)
    space.do(remove, "d", RemoveKind.DIRECTORY, seq=2)
    assert space.do(mkdir, "d", seq=1) == made
    space.refused(Code.NOT_FOUND, stat, "d", True)
    assert space.do(remove, "d", RemoveKind.DIRECTORY, seq=2) == made.id


def test_a_number_used_for_another_verb(space):
    space.do(mkdir, "d", seq=1)
    space.refused(Code.PROTOCOL, remove, "d", RemoveKind.DIRECTORY, seq=1)


@pytest.mark.parametrize(("client", "seq"), [(b"", 1), (b"short", 1), (b"x" * 17, 1), (b"x" * 16, -1), (b"x" * 16, 1 << 64)])
def test_names_that_no_request_can_have(space, client, seq):
    space.refused(Code.INVALID, mkdir, "d", client=client, seq=seq)


def test_sweep_forgets_what_is_old(space):
    for seq in range(1, 11):
        space.do(mkdir, f"d{seq}", seq=seq)
        space.do(mkdir, f"e{seq}", seq=seq, client=LAST)
        space.do(mkdir, f"f{seq}", seq=seq, client=FIRST)
    start = space.wall
    assert swept(space, start) == (0, 1)
    space.wall += 60_000_000_000
    for seq in range(11, 16):
        space.do(mkdir, f"d{seq}", seq=seq)
    assert swept(space, start + requests_remembered_ns)[0] == 30
    assert len(remembered(space)) == 5
    space.refused(Code.EXISTS, mkdir, "d1", seq=1)
    assert space.do(mkdir, "d15", seq=15) == space.stat("d15")
    assert swept(space, space.wall + requests_remembered_ns)[0] == 5
    assert remembered(space) == []
    assert swept(space, space.wall) == (0, 1)


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 65])
def test_sweep_works_in_bounded_steps(space, limit):
    for client in (FIRST, space.client, LAST):
        for seq in range(1, 40):
            space.do(mkdir, f"{client!r}{seq}", seq=seq, client=client)
    forgotten, steps = swept(space, space.wall + requests_remembered_ns, limit)
    assert forgotten == 117
    assert 117 // limit <= steps <= 117 // limit + 2


def test_sweep_looks_at_little_more_than_it_forgets(space):
    for number in range(20):
        for seq in range(1, 20):
            space.do(mkdir, f"{number}-{seq}", seq=seq, client=ClientId(bytes((number,)) * 16))
    looked_at = []

    class Counting:
        def __init__(self, txn):
            self.txn, self.delete = txn, txn.delete

        async def scan(self, begin, end, limit):
            found = await self.txn.scan(begin, end, limit)
            looked_at.extend(found)
            return found

    client, forgotten = space.raw(lambda txn: sweep(Counting(txn), space.wall, FIRST, 1000))
    assert (client, forgotten) == (None, 0)
    assert len(looked_at) == 20


def test_sweep_continues_where_it_stopped(space):
    for client in (b"a" * 16, b"b" * 16):
        for seq in range(1, 6):
            space.do(mkdir, f"{client!r}{seq}", seq=seq, client=client)
    late = space.wall + requests_remembered_ns
    client, forgotten = space.raw(lambda txn: sweep(txn, late, FIRST, 3))
    assert (client, forgotten) == (b"a" * 16, 3)
    assert swept(space, late, start=client)[0] == 7


def test_an_answer_is_told_to_the_user_alone_whose_client_has_asked(space):
    space.owner = "ann"
    made = space.do(mkdir, "d", seq=1)
    assert space.raw(lambda txn: find_owner(txn, space.client)) == "ann"
    assert space.do(mkdir, "d", seq=1) == made
    space.owner = "bob"
    space.refused(Code.PERMISSION, mkdir, "d", seq=1)
    space.owner = ""
    assert space.do(mkdir, "d", seq=1) == made
