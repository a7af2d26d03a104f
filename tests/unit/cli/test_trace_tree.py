"""Where the time of one operation went: its spans on one clock, and every moment given to one of them."""

from __future__ import annotations

import msgspec

from fs3.base.status import Code
from fs3.cli.trace_tree import attribute_time, build_tree, describe, sentence_of, to_document
from fs3.model.trace import SpanContext, SpanKind, TraceSpan

OPERATION, C, S, P = SpanKind.OPERATION, SpanKind.CALL, SpanKind.SERVED, SpanKind.PART


def span(number: int, parent: int, kind: SpanKind, name: str, began: int, elapsed: int, **attributes: object) -> TraceSpan:
    context = SpanContext(bytes(16), bytes([number]))
    return TraceSpan(
        context,
        bytes([parent]) if parent else b"",
        name,
        kind,
        began,
        elapsed,
        Code.OK,
        tuple(attributes.items()),  # type: ignore[arg-type]
    )


FAR = 10**15
"""The clocks of the storage nodes are that far from the client's."""
WRITE = [
    ("client", span(1, 0, OPERATION, "fs3 write", 0, 1000, path="/a", bytes=5)),
    ("client", span(2, 1, C, "Storage.Update", 100, 800)),
    ("storage-1", span(3, 2, S, "Storage.Update", FAR, 600)),
    ("storage-1", span(4, 3, P, "storing", FAR, 250)),
    ("storage-1", span(5, 3, P, "wait for the disk", FAR + 50, 50)),
    ("storage-1", span(6, 3, P, "disk", FAR + 100, 100)),
    ("storage-1", span(7, 3, C, "Storage.Update", FAR + 300, 250)),
    ("storage-1", span(8, 3, P, "next replicas", FAR + 250, 350)),
    ("storage-2", span(9, 7, S, "Storage.Update", 2 * FAR, 200)),
    ("storage-2", span(10, 9, P, "disk", 2 * FAR + 10, 150)),
]


def test_every_moment_goes_to_the_innermost() -> None:
    root = build_tree(WRITE)
    assert root is not None
    found = attribute_time(root)
    assert found == {
        "client: the library": 200,
        "network: client to storage-1": 200,
        "storage-2 (tail): disk": 150,
        "storage-1 (head): disk": 100,
        "storage-1 (head): storing": 100,
        "storage-1 (head): next replicas": 100,
        "storage-1 (head): wait for the disk": 50,
        "network: storage-1 to storage-2": 50,
        "storage-2 (tail): serving": 50,
    }
    assert sum(found.values()) == root.span.elapsed_ns
    assert sentence_of(found, 1000, 2) == "20 % client: the library; 20 % network: client to storage-1"


def test_a_process_whose_clock_is_elsewhere_is_in_the_middle_of_the_request() -> None:
    root = build_tree(WRITE)
    assert root is not None
    begins = {(node.process, node.span.name, node.depth): node.begin for node in root.walk()}
    assert begins["storage-1", "Storage.Update", 2] == 200
    assert begins["storage-2", "Storage.Update", 4] == 525
    assert all(node.begin <= child.begin <= child.end <= node.end for node in root.walk() for child in node.children)


def test_a_clock_that_can_be_right_is_believed() -> None:
    near = [
        (process, msgspec.structs.replace(each, began_ns=each.began_ns - FAR + 110) if process == "storage-1" else each)
        for process, each in WRITE
    ]
    root = build_tree(near)
    assert root is not None
    assert root.children[0].children[0].begin == 110


def test_what_a_silent_process_would_have_said_is_missed_and_no_more() -> None:
    root = build_tree([entry for entry in WRITE if entry[1].context.span_id != bytes([3])])
    assert root is not None
    assert sum(attribute_time(root).values()) == root.span.elapsed_ns
    assert build_tree(WRITE[1:]) is None


def test_one_line_says_what_it_was() -> None:
    refused = span(2, 1, C, "Storage.Update", 0, 5, peer="tcp://x", attempt=2)
    refused = msgspec.structs.replace(refused, code=Code.DISCONNECTED)
    root = build_tree([WRITE[0], ("client", refused)])
    assert root is not None
    assert describe(root) == "fs3 write /a 5 bytes"
    assert describe(root.children[0]) == "Storage.Update (attempt 2) DISCONNECTED"
    assert "DISCONNECTED: client to tcp://x" in attribute_time(root)
    document = to_document(root)
    assert document["attributes"] == {"path": "/a", "bytes": 5}
    assert document["elapsed_us"] == 1


def test_a_middle_replica() -> None:
    more = [
        *WRITE,
        ("storage-2", span(11, 9, C, "Storage.Update", 2 * FAR + 160, 40)),
        ("storage-3", span(12, 11, S, "Storage.Update", 0, 20)),
    ]
    root = build_tree(more)
    assert root is not None
    roles = {node.process: node.role for node in root.walk() if node.span.kind is S}
    assert roles == {"storage-1": "head", "storage-2": "middle", "storage-3": "tail"}
