from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import pytest

from fs3.core.decision_table import Column, DecisionTable, Fact, Row, allowed


class Light(Enum):
    RED = 0
    AMBER = 1
    GREEN = 2


class Road(Enum):
    FREE = 0
    BLOCKED = 1


COLUMNS = {"light": Column(Light, "the light"), "road": Column((Road.FREE, Road.BLOCKED, None), is_code=True)}


@dataclass(frozen=True, kw_only=True)
class Drive(Row):
    go: bool

    def outcome(self) -> tuple[str, ...]:
        return "go" if self.go else "stop", self.why


def row(name: str, *, go: bool, **facts: Fact | tuple[Fact, ...]) -> Drive:
    return Drive(name=name, go=go, why=f"because of {name}", when=allowed(COLUMNS, **facts))


def table(*rows: Drive) -> DecisionTable[Drive]:
    return DecisionTable(COLUMNS, rows, outcome=("do", "why"))


STOP = row("stop", go=False, light=(Light.RED, Light.AMBER))
GO = row("go", go=True, light=Light.GREEN, road=Road.FREE)
JAM = row("jam", go=False, light=Light.GREEN, road=(Road.BLOCKED, None))


def test_exactly_one_row_decides_a_case() -> None:
    whole = table(STOP, GO, JAM)
    whole.check()
    assert len(list(whole.cases())) == 9
    assert whole.row_for((Light.GREEN, None)) is JAM
    assert whole.row_for((Light.AMBER, Road.FREE)) is STOP


def test_a_case_without_a_row_is_named() -> None:
    with pytest.raises(AssertionError, match="light green, road BLOCKED: not one row"):
        table(STOP, GO).check()


def test_a_case_with_two_rows_is_named() -> None:
    late = row("late", go=True, light=Light.AMBER, road=Road.FREE)
    with pytest.raises(AssertionError, match=r"light amber, road FREE: not one row .*name='stop'.*name='late'"):
        table(STOP, late, GO, JAM).check()


def test_facts_that_contradict_each_other_have_no_row() -> None:
    class Watched(DecisionTable[Drive]):
        def is_possible(self, case: Sequence[Fact]) -> bool:
            return case[1] is not None

    with pytest.raises(AssertionError, match="light red, road unknown cannot be, and is decided by"):
        Watched(COLUMNS, (STOP, GO, JAM), outcome=("do", "why")).check()
    stop = row("stop", go=False, light=(Light.RED, Light.AMBER), road=(Road.FREE, Road.BLOCKED))
    Watched(COLUMNS, (stop, GO, row("jam", go=False, light=Light.GREEN, road=Road.BLOCKED)), outcome=("do", "why")).check()


def test_a_row_that_cannot_be_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="no such columns: weather"):
        allowed(COLUMNS, weather=Light.RED)
    with pytest.raises(ValueError, match=r"column road: no such values: \['Light.RED'\]"):
        allowed(COLUMNS, road=Light.RED)
    with pytest.raises(ValueError, match="column road: no such values"):
        allowed(COLUMNS, road=())


def test_a_table_is_printed_for_the_documentation() -> None:
    assert table(STOP, GO, JAM).markdown().splitlines() == [
        "| the light | road | do | why |",
        "|---|---|---|---|",
        "| red/amber | any | stop | because of stop |",
        "| green | FREE | go | because of go |",
        "| green | BLOCKED/unknown | stop | because of jam |",
    ]
    named = DecisionTable(COLUMNS, (STOP, GO, JAM), outcome=("do", "why"), unconstrained="", row_head="rule")
    assert named.markdown().splitlines()[0:3:2] == [
        "| rule | the light | road | do | why |",
        "| stop | red/amber |  | stop | because of stop |",
    ]
