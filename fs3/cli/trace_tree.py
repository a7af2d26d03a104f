"""The spans of one trace as a tree on one clock, and where its time went.

Clocks of machines differ by more than a request takes. So a span of another process is placed by what it is a part of: where its
own clock puts it if that is possible, else in the middle of the request that it answered, as if the network were equally fast
both ways.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from fs3.base.status import Code
from fs3.model.trace import SpanKind, TraceSpan

_OVERALL = ("storing", "next replicas")
"""Parts that others of the same request say more exactly."""
_CHAINED = "Storage.Update"


@dataclass(slots=True)
class TraceNode:
    """A span in its place."""

    process: str
    span: TraceSpan
    depth: int = 0
    begin: int = 0
    """Nanoseconds from the beginning of the trace."""
    children: list[TraceNode] = field(default_factory=list)
    role: str = ""
    """In its chain: head, middle, tail; "" where there is none."""

    @property
    def end(self) -> int:
        """As `begin`."""
        return self.begin + self.span.elapsed_ns

    @property
    def where(self) -> str:
        """The process, and what it is in the chain."""
        return f"{self.process} ({self.role})" if self.role else self.process

    @property
    def what(self) -> str:
        """What took the time that none of its parts took, in words."""
        match self.span.kind:
            case SpanKind.OPERATION:
                return f"{self.where}: the library"
            case SpanKind.CALL:
                answered = next((child for child in self.children if child.span.kind is SpanKind.SERVED), None)
                way = f"{self.process} to {answered.process if answered else self.span.get('peer') or '?'}"
                return f"network: {way}" if self.span.code is Code.OK else f"{self.span.code.name}: {way}"
            case SpanKind.SERVED:
                return f"{self.where}: serving"
            case _:
                return f"{self.where}: {self.span.name}"

    def walk(self) -> Iterable[TraceNode]:
        """It and all below it, in the order of their beginnings."""
        yield self
        for child in self.children:
            yield from child.walk()


def build_tree(spans: Iterable[tuple[str, TraceSpan]]) -> TraceNode | None:
    """The tree of a trace from its spans with their processes. None: its root is not among them."""
    nodes = {span.context.span_id: TraceNode(process, span) for process, span in spans}
    root = next((node for node in nodes.values() if not node.span.parent_id), None)
    if root is None:
        return None
    for node in nodes.values():
        if node is not root:
            # What it is a part of may have been on a process that does not answer any more.
            nodes.get(node.span.parent_id, root).children.append(node)
    _place(root)
    _name_roles(root)
    return root


def _place(node: TraceNode) -> None:
    for child in node.children:
        child.depth = node.depth + 1
        begin = node.begin + child.span.began_ns - node.span.began_ns
        latest = node.end - child.span.elapsed_ns
        if child.process != node.process and not node.begin <= begin <= latest:
            begin = (node.begin + latest) // 2
        child.begin = max(node.begin, begin)
        _place(child)
    node.children.sort(key=lambda child: (child.begin, -child.span.elapsed_ns))


def _name_roles(root: TraceNode) -> None:
    """Each replica that took part in an update knows its place by who asked it, and whom it asked."""

    def visit(node: TraceNode, above: int) -> None:
        if node.span.kind is SpanKind.SERVED and node.span.name == _CHAINED:
            asks_on = any(child.span.kind is SpanKind.CALL and child.span.name == _CHAINED for child in node.children)
            node.role = ("middle" if asks_on else "tail") if above else ("head" if asks_on else "the only replica")
            above += 1
        for child in node.children:
            if child.span.kind in (SpanKind.PART, SpanKind.CALL):
                child.role = node.role
            visit(child, above)

    visit(root, 0)


def attribute_time(root: TraceNode) -> dict[str, int]:
    """Nanoseconds by what they went to, the most first; together they are the whole time of the root. Of what happened at the
    same time the innermost counts, and of several such the one that began last."""
    nodes = [node for node in root.walk() if node.span.elapsed_ns > 0]
    edges = sorted({max(root.begin, min(root.end, at)) for node in nodes for at in (node.begin, node.end)})
    found: dict[str, int] = defaultdict(int)
    for begin, end in pairwise(edges):
        inner = max((node for node in nodes if node.begin <= begin and node.end >= end), key=_rank)
        found[inner.what] += end - begin
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def _rank(node: TraceNode) -> tuple[float, int]:
    return node.depth - (0.5 if node.span.kind is SpanKind.PART and node.span.name in _OVERALL else 0), node.begin


def sentence_of(shares: dict[str, int], total_ns: int, count: int = 3) -> str:
    """The largest shares in words."""
    said = [f"{100 * part / total_ns:.0f} % {what}" for what, part in list(shares.items())[:count] if part]
    return "; ".join(said)


def describe(node: TraceNode) -> str:
    """One line: what it is, how it went."""
    span = node.span
    words = [span.name]
    if span.kind is SpanKind.SERVED:
        words.append(f"at {node.where}")
    if (attempt := span.get("attempt")) is not None:
        words.append(f"(attempt {attempt})")
    if (path := span.get("path")) is not None:
        words.append(str(path))
    if (size := span.get("bytes")) is not None:
        words.append(f"{size} bytes")
    if span.code is not Code.OK:
        words.append(span.code.name)
    return " ".join(words)


def to_document(node: TraceNode) -> dict[str, object]:
    """As plain data."""
    return {
        "name": node.span.name,
        "kind": node.span.kind.name.lower(),
        "process": node.process,
        "role": node.role,
        "began_us": node.begin / 1000,
        "elapsed_us": node.span.elapsed_ns / 1000,
        "code": node.span.code.name,
        "attributes": dict(node.span.attributes),
        "parts": [to_document(child) for child in node.children],
    }
