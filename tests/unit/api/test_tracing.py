"""What a client traces and records, and what is left of that once it does not."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fs3.api.client import Client
from fs3.api.io_trace import IORecorder
from fs3.api.traced_operations import OPERATIONS, ClientOperation, Measure, bytes_of, class_of, path_of
from fs3.api.tracing import ClientTracing
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.runtime.tracing import current_span, within


class Reader:
    """Stands for a client: a class with methods of its own, and one of a class above."""

    calls = 0

    async def pread(self, path: str, length: int) -> bytes:
        self.calls += 1
        await asyncio.sleep(0)
        if path == "/absent":
            raise error(Code.NOT_FOUND, "no such file", path)
        return bytes(length)

    def pread_directly(self, path: str, view: memoryview) -> bool:
        self.calls += 1
        return len(view) < 100


class Above(Reader):
    pass


HERE = f"{__name__}:Above"


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of this test alone, on methods of its own."""
    operations = (
        ClientOperation(HERE, "pread", "read", Measure.RESULT),
        ClientOperation(HERE, "pread_directly", "read", Measure.ARGUMENT),
    )
    monkeypatch.setattr("fs3.api.traced_operations.OPERATIONS", operations)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or SimpleNamespace(Above=Above))
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    made = ClientTracing()
    yield made
    made.set_ratio(0)
    assert Above.pread is Reader.pread, "nothing is left behind"


def spans_of(tracing: ClientTracing) -> list[Any]:
    return [span for _, span in tracing.spans._spans]


def test_every_operation_is_a_method() -> None:
    for operation in OPERATIONS:
        assert callable(getattr(class_of(operation), operation.method)), operation


def test_a_client_that_traces_nothing_has_nothing_around_its_methods() -> None:
    assert Client.pread.__module__ == "fs3.api.client_bytes"
    assert Client.pread.__code__.co_filename.endswith("client_bytes.py")


async def test_all_operations_of_a_program(tracing: ClientTracing) -> None:
    tracing.set_ratio(1)
    reader = Above()
    assert await reader.pread("/a", 7) == bytes(7)
    with pytest.raises(FS3Error):
        await reader.pread("/absent", 7)
    found = [(span.name, span.code, span.parent_id, span.get("path"), span.get("bytes")) for span in spans_of(tracing)]
    assert found == [("fs3 read", Code.OK, b"", "/a", 7), ("fs3 read", Code.NOT_FOUND, b"", "/absent", None)]
    first, second = (span.context.trace_id for span in spans_of(tracing))
    assert first != second
    assert current_span.get() is None
    tracing.set_ratio(0)
    await reader.pread("/a", 7)
    assert len(spans_of(tracing)) == 2


async def test_a_part_of_the_operations(tracing: ClientTracing) -> None:
    tracing.set_ratio(0.05)
    reader = Above()
    for _ in range(4000):
        reader.pread_directly("/a", memoryview(bytearray(1)))
    assert 100 < len(spans_of(tracing)) < 320, "200 are expected; beyond these bounds it is once in 10**12 runs"
    assert reader.calls == 4000
    with pytest.raises(FS3Error, match=r"1\.5 is not a part"):
        tracing.set_ratio(1.5)


async def test_what_is_asked_within_an_operation_is_a_part_of_it(tracing: ClientTracing) -> None:
    tracing.set_ratio(1)
    with within(span := tracing.begin("step")):
        await asyncio.gather(Above().pread("/a", 1), Above().pread("/b", 1))
    span.end()
    await Above().pread("/c", 1)
    root = span.contexts[0]
    assert [(each.parent_id == root.span_id, each.get("path")) for each in spans_of(tracing)] == [
        (True, "/a"), (True, "/b"), (False, None), (False, "/c"),
    ]  # fmt: skip


@pytest.mark.parametrize("sampled", [True, False])
async def test_the_program_decides(tracing: ClientTracing, monkeypatch: pytest.MonkeyPatch, sampled: bool) -> None:
    """Where it has a span of OpenTelemetry under way."""
    context = SimpleNamespace(is_valid=True, trace_id=5, span_id=6, trace_flags=SimpleNamespace(sampled=sampled))
    library = SimpleNamespace(get_current_span=lambda: SimpleNamespace(get_span_context=lambda: context))
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", library)
    tracing.set_ratio(1 if not sampled else 1e-9)
    await Above().pread("/a", 1)
    assert [(span.context.trace_id, span.parent_id) for span in spans_of(tracing)] == (
        [((5).to_bytes(16, "big"), (6).to_bytes(8, "big"))] if sampled else []
    )
    context.is_valid = False
    tracing.set_ratio(1)
    await Above().pread("/a", 1)
    assert spans_of(tracing)[-1].parent_id == b""


def test_the_environment_decides(tracing: ClientTracing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS3_TRACE_RATIO", "half")
    with pytest.raises(FS3Error, match="FS3_TRACE_RATIO='half'"):
        tracing.read_environment()
    monkeypatch.setenv("FS3_TRACE_RATIO", "1")
    tracing.read_environment()
    Above().pread_directly("/a", memoryview(bytearray(1)))
    assert len(spans_of(tracing)) == 1


# --- recordings ------------------------------------------------------------------------------------------------------


def events_of(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


async def test_io_is_recorded(tracing: ClientTracing, tmp_path: Path) -> None:
    reader = Above()
    with tracing.record(tmp_path / "io.json") as recorder:
        with pytest.raises(FS3Error, match="recorded already"):
            tracing.start_recording(tmp_path / "other.json")
        await asyncio.gather(*(reader.pread("/a", number) for number in range(5)))
        with pytest.raises(FS3Error):
            await reader.pread("/absent", 1)
        assert reader.pread_directly("/d", memoryview(bytearray(9)))
        assert not reader.pread_directly("/d", memoryview(bytearray(900)))
    await reader.pread("/later", 1)
    events = events_of(tmp_path / "io.json")
    assert recorder.events == len(events) == 7
    assert {event["pid"] for event in events} == {os.getpid()}
    together = [event for event in events if event["args"]["path"] == "/a"]
    assert sorted(event["args"]["bytes"] for event in together) == [0, 1, 2, 3, 4]
    assert len({event["tid"] for event in together}) == 5, "what overlaps has a line of its own"
    (failed,) = (event for event in events if event["args"]["path"] == "/absent")
    assert failed["args"]["error"] == "NOT_FOUND"
    (direct,) = (event for event in events if event["args"]["path"] == "/d")
    assert direct["tid"] == threading.get_native_id()
    assert not spans_of(tracing), "recorded is not traced"


def test_times_are_those_of_pytorch(tmp_path: Path) -> None:
    recorder = IORecorder(tmp_path / "io.json")
    recorder.add("fs3 read", 0, recorder.now() - 5_000_000, "/a")
    recorder.close()
    document = json.loads((tmp_path / "io.json").read_text())
    base_ns = document["baseTimeNanoseconds"]
    assert base_ns % (7_889_238 * 10**9) == 0
    (event,) = events_of(tmp_path / "io.json")
    ended_ns = base_ns + int((event["ts"] + event["dur"]) * 1000)
    assert abs(ended_ns - (tmp_path / "io.json").stat().st_mtime_ns) < 10**9
    assert event["dur"] >= 5000


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = IORecorder(tmp_path / "io.json")
    for _ in range(10):
        recorder.add("fs3 read", 0, 1, "/a")
    recorder._flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "io.json").stat().st_size + 700, hard))
    try:
        for _ in range(3):
            for _ in range(100):
                recorder.add("fs3 read", 0, 1, "/a")
            recorder._flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    recorder.add("fs3 read", 0, 1, "/a")
    recorder.close()
    assert len(events_of(tmp_path / "io.json")) == recorder.events == 10, "the file is complete JSON"
    assert recorder.dropped == 301
    assert len([record for record in caplog.records if "no more IO is recorded" in record.message]) == 1


def test_a_recording_is_bounded(tmp_path: Path) -> None:
    recorder = IORecorder(tmp_path / "io.json", bytes_max=2000)
    for _ in range(10):
        for _ in range(5):
            recorder.add("fs3 read", 0, 1, "/a")
        recorder._flush()
    recorder.close()
    assert (tmp_path / "io.json").stat().st_size <= 2000
    assert len(events_of(tmp_path / "io.json")) == recorder.events > 0
    assert recorder.dropped == 50 - recorder.events


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"io\.json"):
        IORecorder(tmp_path / "absent" / "io.json")


def test_a_name_of_any_characters_is_recorded(tmp_path: Path) -> None:
    recorder = IORecorder(tmp_path / "io.json")
    recorder.add("fs3 read", 0, 1, 'a\udcff"\n\\')
    recorder.close()
    assert events_of(tmp_path / "io.json")[0]["args"]["path"] == 'a\udcff"\n\\'


def in_child(recorder: IORecorder) -> None:
    recorder.add("fs3 read", 0, 1, "/child")


def test_a_forked_child_has_a_file_of_its_own(tmp_path: Path) -> None:
    recorder = IORecorder(tmp_path / "io.json")
    recorder.add("fs3 read", 0, 1, "/parent")
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(recorder,))
    child.start()
    child.join()
    recorder.close()
    assert [event["args"]["path"] for event in events_of(tmp_path / "io.json")] == ["/parent"]
    (event,) = events_of(tmp_path / f"io.json.{child.pid}")
    assert (event["args"]["path"], event["pid"]) == ("/child", child.pid)


@pytest.mark.parametrize(
    ("measure", "arguments", "result", "found"),
    [
        (Measure.RESULT, (), b"abc", 3),
        (Measure.RESULT, (), 7, 7),
        (Measure.RESULT, (), [1, 2], 3),
        (Measure.RESULT, (), None, -1),
        (Measure.ARGUMENT, ("file", bytearray(5)), None, 5),
        (Measure.ARGUMENT, ("file",), None, -1),
        (Measure.BUFFERS, (["a", "b"], [bytes(3), memoryview(bytes(4))]), None, 7),
        (Measure.BUFFERS, ([("file", 0, bytes(3))],), None, 3),
        (Measure.NONE, (b"abc",), b"abc", -1),
    ],
)
def test_how_many_bytes(measure: Measure, arguments: tuple[Any, ...], result: Any, found: int) -> None:
    assert bytes_of(measure, arguments, result) == found


def test_what_an_operation_is_about() -> None:
    assert path_of(("/a", 1)) == "/a"
    assert path_of((SimpleNamespace(path="/b"),)) == "/b"
    assert path_of((["/a"],)) == "/a"
    assert path_of(([SimpleNamespace(path="/a"), SimpleNamespace(path="/b")],)) == "/a and 1 more"
    assert path_of(([(SimpleNamespace(path="/a"), 0, b""), (SimpleNamespace(path="/b"), 0, b"")],)) == "/a and 1 more"
    assert path_of(([b"key", b"other"],)) == "(2)"
    assert path_of(([],)) == "(0)"
    assert path_of(()) == path_of((5,)) == ""
