"""Decision tables: a rule written as rows, of which exactly one matches every case.

A case is one value for each column. A row names the values it allows in some columns, allows all in the others, and says what
follows. Rows do not depend on their order, so each can be read, and argued for, by itself.

    COLUMNS = {"store": Column(StoreState), "lease": Column(LeaseState)}        the facts, by the names rows call them by
    Row subclass                                                              what follows, as typed fields, and `outcome`
    TABLE = DecisionTable(COLUMNS, (MyRow(..., when=allowed(COLUMNS, lease=LeaseState.OVER)), ...), outcome=("answer",))

`TABLE.check()` proves that exactly one row matches each case; tests call it. `TABLE.markdown()` is the table as it stands in the
documentation; `fs3.sim.tables` puts it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Generic, TypeVar

Fact = Enum | None
"""A value of a column. None: nothing is known."""
Case = tuple[Fact, ...]
"""One value for each column, in their order."""


class Column:
    """One fact that rows look at."""

    def __init__(self, values: Iterable[Fact], head: str = "", *, is_code: bool = False) -> None:
        """`values` is all it can be, in the order in which a cell names them: an Enum, or a tuple. `head` is what it is called in
        print, if not as in the code. `is_code`: its values are printed as the code spells them; else in lower case."""
        self.values = tuple(values)
        self.head = head
        self.is_code = is_code


@dataclass(frozen=True, kw_only=True)
class Row:
    """In these cases, this follows. Subclasses add what follows as fields."""

    when: tuple[frozenset[Fact], ...] = field(repr=False)
    """The allowed values of every column; from `allowed`."""
    why: str
    """The reason, for people."""
    name: str = ""

    def matches(self, case: Sequence[Fact]) -> bool:
        """Whether the row decides this case."""
        return all(value in allowed for value, allowed in zip(case, self.when, strict=True))

    def outcome(self) -> tuple[str, ...]:
        """What follows, in print: a cell for each of the table's `outcome` heads."""
        raise NotImplementedError


def allowed(columns: Mapping[str, Column], **facts: Fact | tuple[Fact, ...]) -> tuple[frozenset[Fact], ...]:
    """`Row.when` of a row that allows one value, or several, in the columns named and everything in the others.

    ValueError names a column that the table has not, or a value that the column has not.
    """
    when = []
    for name, column in columns.items():
        values = frozenset(column.values)
        if name in facts:
            wanted = facts.pop(name)
            chosen = frozenset(wanted if isinstance(wanted, tuple) else (wanted,))
            if not chosen or not chosen <= values:
                raise ValueError(f"column {name}: no such values: {sorted(map(str, chosen - values))}")
            values = chosen
        when.append(values)
    if facts:
        raise ValueError(f"no such columns: {', '.join(facts)}")
    return tuple(when)


R = TypeVar("R", bound=Row)


class DecisionTable(Generic[R]):
    """Rows over columns."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        rows: Iterable[R],
        *,
        outcome: tuple[str, ...],
        unconstrained: str = "any",
        row_head: str = "",
    ) -> None:
        """`outcome` are the heads of the cells of `Row.outcome`; `unconstrained` is printed where a row does not look, `row_head`
        over the names of the rows, which come first then."""
        self.columns = columns
        self.rows = tuple(rows)
        self._outcome = outcome
        self._unconstrained = unconstrained
        self._row_head = row_head

    def is_possible(self, case: Sequence[Fact]) -> bool:
        """Whether the facts can occur together. A table whose facts can contradict each other overrides this."""
        return True

    def cases(self) -> Iterator[Case]:
        """Every combination of facts, possible or not."""
        return product(*(column.values for column in self.columns.values()))

    def row_for(self, case: Sequence[Fact]) -> R:
        """The one row that matches. AssertionError names the case and the rows when that is not one."""
        found = [row for row in self.rows if row.matches(case)]
        assert len(found) == 1, f"{self._spell(case)}: not one row but {found}"
        return found[0]

    def check(self) -> None:
        """AssertionError unless exactly one row matches each possible case, none an impossible one, and each row some case."""
        reached: set[int] = set()
        for case in self.cases():
            if self.is_possible(case):
                reached.add(id(self.row_for(case)))
            else:
                found = [row for row in self.rows if row.matches(case)]
                assert not found, f"{self._spell(case)} cannot be, and is decided by {found}"
        idle = [row for row in self.rows if id(row) not in reached]
        assert not idle, f"rows that match nothing: {idle}"

    def markdown(self) -> str:
        """The table for people, without a newline at its end."""
        heads = [self._row_head] if self._row_head else []
        heads += [column.head or name for name, column in self.columns.items()]
        heads += self._outcome
        lines = [_line(heads), "|---" * len(heads) + "|"]
        for row in self.rows:
            cells = [row.name] if self._row_head else []
            cells += [self._cell(column, values) for column, values in zip(self.columns.values(), row.when, strict=True)]
            lines.append(_line([*cells, *row.outcome()]))
        return "\n".join(lines)

    def _cell(self, column: Column, values: frozenset[Fact]) -> str:
        names = [_name(value, column) for value in column.values if value in values]
        return self._unconstrained if len(names) == len(column.values) else "/".join(names)

    def _spell(self, case: Sequence[Fact]) -> str:
        return ", ".join(
            f"{name} {_name(value, column)}" for (name, column), value in zip(self.columns.items(), case, strict=True)
        )


def _name(value: Fact, column: Column) -> str:
    if value is None:
        return "unknown"
    return value.name if column.is_code else value.name.lower()


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
