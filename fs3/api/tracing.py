"""Which operations of this process are traced, and whether its IO is recorded.

    fs3.trace_operations(0.01)                   # one of a hundred; FS3_TRACE_RATIO=0.01 in the environment does the same
    with fs3.record_trace("io.json"):            # all IO of the block, or FS3_RECORD_TRACE=io.json: of the process
        train()

Where the program has a span of OpenTelemetry under way, what it asks for is a part of that if that is sampled, and else not
traced: the program decides.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fs3.api.io_trace import IORecorder
from fs3.api.traced_operations import ClientMethod, ClientOperation, TracedMethods, bytes_of, path_of
from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.drivers.os.clock import OsClock
from fs3.drivers.otlp.exporter import SpanExporter
from fs3.model.metrics.metric import Sample
from fs3.model.trace import TRACE_ID_BYTES, SpanContext, SpanKind
from fs3.runtime.exit import ExitStage, run_at_exit
from fs3.runtime.span_store import SpanStore
from fs3.runtime.tracing import OpenSpan, Tracer, current_span

RATIO = "FS3_TRACE_RATIO"
RECORD = "FS3_RECORD_TRACE"

_NEVER = sys.maxsize
_LIBRARY = "opentelemetry.trace"
_modules = sys.modules
_current_span = current_span.get


class ClientTracing:
    """Of one process."""

    def __init__(self) -> None:
        clock = OsClock()
        self.spans = SpanStore(clock)
        """What was traced a while ago at most."""
        self.tracer = Tracer(clock, os.urandom, self.spans)
        self._methods = TracedMethods()
        self._exporter: SpanExporter | None = None
        self._recorder: IORecorder | None = None
        self._ratio = 0.0
        self._left = _NEVER
        """Operations until the next that is traced."""

    # --- what is wanted ----------------------------------------------------------------------------------------------

    def set_ratio(self, ratio: float) -> None:
        """Trace this part of the operations, 0 to 1. InvalidArgument for another number."""
        if not 0 <= ratio <= 1:
            raise error(Code.INVALID, f"{ratio} is not a part of all operations, 0 to 1")
        if ratio and self._exporter is None:
            self._exporter = SpanExporter.of_environment("client", Path(sys.argv[0] or "python").name)
            if self._exporter is not None:
                self.tracer.sinks.append(self._exporter)
                run_at_exit(self._exporter.close, ExitStage.CLIENTS)
        self._ratio = ratio
        self._draw()
        self._adapt()

    @contextmanager
    def record(self, path: str | os.PathLike[str]) -> Iterator[IORecorder]:
        """Record the IO of the block; see `IORecorder`. InvalidArgument when another recording is under way."""
        recorder = self.start_recording(path)
        try:
            yield recorder
        finally:
            self._recorder = None
            self._adapt()
            recorder.close()

    def start_recording(self, path: str | os.PathLike[str]) -> IORecorder:
        """Record the IO from now on. Raises OSError; InvalidArgument when another recording is under way."""
        if self._recorder is not None:
            raise error(Code.INVALID, f"IO is recorded already, into {self._recorder.path}")
        recorder = self._recorder = IORecorder(path)
        self._adapt()
        return recorder

    def read_environment(self) -> None:
        """What the environment asks for, once. InvalidArgument naming the variable."""
        text = os.environ.get(RATIO, "")
        if text and not self._ratio:
            try:
                self.set_ratio(float(text))
            except ValueError as wrong:
                raise error(Code.INVALID, f"{RATIO}={text!r}: {wrong}") from wrong
        path = os.environ.get(RECORD, "")
        if path and self._recorder is None:
            run_at_exit(self.start_recording(path).close, ExitStage.CLIENTS)

    def samples(self) -> Iterator[Sample]:
        """Its readings, as a `MetricSource` says them."""
        if self._exporter is not None:
            yield from self._exporter.samples()

    def begin(self, name: str) -> OpenSpan:
        """A trace of its own, whatever the ratio."""
        return self.tracer.begin(name, SpanKind.OPERATION, (SpanContext(self.tracer.new_id(TRACE_ID_BYTES), b""),))

    def _adapt(self) -> None:
        if self._ratio or self._recorder is not None:
            self._methods.install(self._around, self._around_direct)
        else:
            self._methods.remove()

    # --- operations --------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        """How many operations until the next that is traced: one draw for all of them costs less than one for each."""
        if self._ratio >= 1:
            self._left = 1
        elif self._ratio <= 0:
            self._left = _NEVER
        else:
            self._left = 1 + int(math.log(1 - random.random()) / math.log(1 - self._ratio))

    def _sample(self, name: str) -> OpenSpan | None:
        parent = _current_span()
        if parent is not None and not parent.is_ended:
            return parent.child(name, SpanKind.OPERATION)
        if _LIBRARY in _modules and self._ratio:
            known, above = _span_of_program()
            if known:
                return None if above is None else self.tracer.begin(name, SpanKind.OPERATION, (above,))
        self._left -= 1
        if self._left > 0:
            return None
        self._draw()
        return self.begin(name)

    def _around(self, operation: ClientOperation, original: ClientMethod) -> ClientMethod:
        name = f"fs3 {operation.name}"

        async def run(span: OpenSpan | None, client: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            end = _Ending(self._recorder, span, operation, name, arguments)
            try:
                result = await original(client, *arguments, **options)
            except BaseException as failure:
                end.fail(failure)
                raise
            end.finish(result)
            return result

        return self._begin_by(run, name, original)

    def _around_direct(self, operation: ClientOperation, original: ClientMethod) -> ClientMethod:
        name = f"fs3 {operation.name}"

        def run(span: OpenSpan | None, client: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            end = _Ending(self._recorder, span, operation, name, arguments, direct=True)
            try:
                result = original(client, *arguments, **options)
            except BaseException as failure:
                end.fail(failure)
                raise
            end.finish(result)
            return result

        return self._begin_by(run, name, original)

    def _begin_by(self, run: ClientMethod, name: str, original: ClientMethod) -> ClientMethod:
        """Calls `run` where an operation is traced or recorded, and else the method itself."""

        def begin(client: Any, *arguments: Any, **options: Any) -> Any:
            # What nearly every operation comes to while one of a hundred is traced.
            if self._left > 1 and self._recorder is None and _current_span() is None and _LIBRARY not in _modules:
                self._left -= 1
                return original(client, *arguments, **options)
            span = self._sample(name)
            if span is None and self._recorder is None:
                return original(client, *arguments, **options)
            return run(span, client, arguments, options)

        return begin


class _Ending:
    """One operation that is traced, recorded or both, until it ends."""

    __slots__ = ("_arguments", "_began_at", "_direct", "_name", "_operation", "_recorder", "_span", "_token", "_track")

    def __init__(
        self,
        recorder: IORecorder | None,
        span: OpenSpan | None,
        operation: ClientOperation,
        name: str,
        arguments: tuple[Any, ...],
        *,
        direct: bool = False,
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._operation = operation
        self._name = name
        self._arguments = arguments
        self._direct = direct
        self._token = None if span is None else current_span.set(span)
        self._track = 0 if recorder is None or direct else recorder.take_track()
        self._began_at = 0 if recorder is None else recorder.now()

    def finish(self, result: Any) -> None:
        """It has ended well."""
        # What cannot be done directly is done otherwise, which is another operation.
        is_done = not self._direct or (result is not None and result is not False)
        size = bytes_of(self._operation.measure, self._arguments, result) if is_done else -1
        self._end(Code.OK, size, is_kept=is_done)

    def fail(self, failure: BaseException) -> None:
        """It has failed, or was cancelled."""
        unnamed = Code.INTERNAL if isinstance(failure, Exception) else Code.CANCELLED
        self._end(failure.code if isinstance(failure, FS3Error) else unnamed, -1, is_kept=True)

    def _end(self, code: Code, size: int, *, is_kept: bool) -> None:
        span, recorder, path = self._span, self._recorder, path_of(self._arguments)
        if span is not None:
            assert self._token is not None
            current_span.reset(self._token)
            if path:
                span.attributes["path"] = path
            if size >= 0:
                span.attributes["bytes"] = size
            if not is_kept:
                span.attributes["left to the loop"] = 1
            span.end(code)
        if recorder is not None and is_kept:
            recorder.add(self._name, self._track, self._began_at, path, size, "" if code is Code.OK else code.name)


def _span_of_program() -> tuple[bool, SpanContext | None]:
    """(the program has a span of OpenTelemetry under way, which one when it is sampled)."""
    context = _modules[_LIBRARY].get_current_span().get_span_context()
    if not context.is_valid:
        return False, None
    if not context.trace_flags.sampled:
        return True, None
    return True, SpanContext(context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))


tracing = ClientTracing()
"""Of this process."""


def trace_operations(ratio: float) -> None:
    """Trace this part of what this process asks fs3 for, 0 to 1: 0.01 is one operation of a hundred. Services follow. Spans go to
    the collector that OpenTelemetry's variables name (OTEL_EXPORTER_OTLP_ENDPOINT), where `fs3[trace]` is installed; those of the
    last ten minutes stay in memory, where `fs3 trace` finds them. InvalidArgument for another number."""
    tracing.set_ratio(ratio)


@contextmanager
def record_trace(path: str | os.PathLike[str]) -> Iterator[IORecorder]:
    """Record all IO of the block, of any client and thread of this process, into a trace file (Chrome, Perfetto, torch.profiler).
    Raises OSError when the file cannot be made; what goes wrong later ends the recording, not the program."""
    with tracing.record(path) as recorder:
        yield recorder
