"""`python -m benches.training_step`: what fs3 does while a program trains, laid beside its steps.

A loop that loads samples ahead, computes, and writes a checkpoint every few steps while it goes on. The IO is recorded by
`fs3.record_trace`, the steps by torch.profiler where torch is installed (then samples come from a DataLoader with workers, a
model is trained, and checkpoints are written by torch.save), and by a list of the same format where it is not. Both files name
the same base time, so they become one by putting their events together; Perfetto (https://ui.perfetto.dev) shows it. From it
comes how much of loading and of checkpointing happens while the program computes, and the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import numpy

import fs3
from fs3.cli.local import LocalCluster

MIB = 1 << 20
SAMPLE_BYTES = 4 * MIB
CHECKPOINT_BYTES = 48 * MIB
STEPS_PER_CHECKPOINT = 8
ROWS = 32
"""Of a batch that a model is trained with."""
SIDE = 512
"""Of the matrices that are computed with."""
LOADED_AHEAD = 4
WORKERS = 2
BASE_NS = 7_889_238 * 10**9
"""PyTorch's base times are multiples of this."""

Interval = tuple[float, float]
"""Seconds, from and to."""
Stages = dict[str, list[Interval]]
"""When each of loading, computing and checkpointing was under way; disjoint and in order."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print; exit status 0."""
    parser = argparse.ArgumentParser(prog="benches.training_step", description=__doc__)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--output", type=Path, default=None, help="directory for the traces; nothing is kept when left out")
    parser.add_argument("--picture", type=Path, default=None, help="an .svg")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fs3-training-")))
        output = options.output or work
        output.mkdir(parents=True, exist_ok=True)
        cluster = stack.enter_context(LocalCluster(work / "cluster"))
        write_samples(cluster.url, options.steps)
        found = train(cluster.url, options.steps, output)
        stages = stages_of(json.loads(found.read_text())["traceEvents"])
        print(describe(stages))
        if options.output is not None:
            print(f"{found} shows all of it in https://ui.perfetto.dev")
        if options.picture is not None:
            draw(stages, options.picture)
    return 0


# --- the program -----------------------------------------------------------------------------------------------------


def write_samples(url: str, count: int) -> None:
    """What is loaded later."""
    files, root = fsspec.core.url_to_fs(url)
    files.pipe({f"{root.rstrip('/')}/samples/{number}": os.urandom(SAMPLE_BYTES) for number in range(count)})


def train(url: str, steps: int, output: Path) -> Path:
    """Load, compute and write checkpoints; the file with what happened when."""
    paths = [f"{url.rstrip('/')}/samples/{number}" for number in range(steps)]
    io, profile = output / "io.json", output / "steps.json"
    saving: list[threading.Thread] = []
    program = Program() if find_spec("torch") is None else TorchProgram()
    with fs3.record_trace(io), profiled(profile) as step:
        for number, sample in enumerate(loaded(paths)):
            with step("compute"):
                program.compute(sample)
            if number % STEPS_PER_CHECKPOINT == STEPS_PER_CHECKPOINT - 1:
                target = f"{url.rstrip('/')}/checkpoints/{number}"
                saving.append(threading.Thread(target=program.save, args=(target, program.snapshot())))
                saving[-1].start()  # the next steps do not wait for it
        for each in saving:
            each.join()
    return merge([*sorted(output.glob("io.json*")), profile], output / "steps-and-io.json")


def loaded(paths: Sequence[str]) -> Iterator[bytes]:
    """The samples in order, some of them ahead."""
    if find_spec("torch") is not None:
        from torch.utils.data import DataLoader

        yield from DataLoader(Samples(paths), batch_size=None, num_workers=WORKERS, prefetch_factor=LOADED_AHEAD // WORKERS)
        return
    ahead: queue.Queue[bytes] = queue.Queue(LOADED_AHEAD)

    def load() -> None:
        samples = Samples(paths)
        for number in range(len(samples)):
            ahead.put(samples[number])

    threading.Thread(target=load, daemon=True).start()
    for _ in paths:
        yield ahead.get()


class Samples:
    """What a DataLoader takes: samples by number."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> bytes:
        with fsspec.open(self._paths[index], "rb") as file:
            data: bytes = file.read()
        return data


class Program:
    """What is done with the samples."""

    def compute(self, sample: bytes) -> None:
        """Stands for a step: it keeps a processor busy and lets other threads run."""
        matrix = numpy.frombuffer(sample, dtype=numpy.uint8)[: SIDE * SIDE].reshape(SIDE, SIDE).astype(numpy.float32)
        for _ in range(6):
            matrix = matrix @ matrix
            matrix /= numpy.abs(matrix).max() + 1

    def snapshot(self) -> Any:
        """What a checkpoint of this moment consists of: nothing changes it any more."""
        return bytes(CHECKPOINT_BYTES)

    def save(self, url: str, state: Any) -> None:
        """Write a checkpoint."""
        with fsspec.open(url, "wb") as file:
            file.write(state)


class TorchProgram(Program):
    """The same with a model, by torch."""

    def __init__(self) -> None:
        import torch

        layers = CHECKPOINT_BYTES // (4 * SIDE * SIDE)
        self._torch = torch
        torch.set_num_threads(1)  # workers load beside it, and a layer is too small for more
        self._model = torch.nn.Sequential(*(torch.nn.Linear(SIDE, SIDE, bias=False) for _ in range(layers)))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-6)

    def compute(self, sample: bytes) -> None:
        """A step of training."""
        torch = self._torch
        batch = torch.frombuffer(bytearray(sample[: ROWS * SIDE]), dtype=torch.uint8).reshape(ROWS, SIDE).float() / 255
        self._optimizer.zero_grad()
        self._model(batch).square().mean().backward()
        self._optimizer.step()

    def snapshot(self) -> Any:
        """See `Program`."""
        return {name: tensor.clone() for name, tensor in self._model.state_dict().items()}

    def save(self, url: str, state: Any) -> None:
        """See `Program`."""
        with fsspec.open(url, "wb") as file:
            self._torch.save(state, file)


# --- what happened when ----------------------------------------------------------------------------------------------

Step = Callable[[str], Any]


@contextmanager
def profiled(path: Path) -> Iterator[Step]:
    """Gives what marks a part of a step, and writes a trace at the end."""
    if find_spec("torch") is not None:
        from torch.profiler import ProfilerActivity, profile, record_function

        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            yield record_function
        recorded.export_chrome_trace(str(path))
        return
    base_ns = time.time_ns() // BASE_NS * BASE_NS
    events: list[dict[str, Any]] = []

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        began_ns = time.time_ns()
        yield
        times = {"ts": (began_ns - base_ns) / 1000, "dur": (time.time_ns() - began_ns) / 1000}
        events.append({"ph": "X", "name": name, "pid": os.getpid(), "tid": threading.get_native_id(), **times})

    yield mark
    path.write_text(json.dumps({"baseTimeNanoseconds": base_ns, "traceEvents": events}))


def merge(paths: Iterable[Path], target: Path) -> Path:
    """One trace of several. Times are moved where base times differ."""
    documents = [json.loads(path.read_text()) for path in paths]
    base_ns = documents[0]["baseTimeNanoseconds"]
    events: list[dict[str, Any]] = []
    for document in documents:
        moved_us = (document.get("baseTimeNanoseconds", 0) - base_ns) / 1000
        events += (event | {"ts": event["ts"] + moved_us} if "ts" in event else event for event in document["traceEvents"])
    target.write_text(json.dumps({"schemaVersion": 1, "baseTimeNanoseconds": base_ns, "traceEvents": events}))
    return target


def stages_of(events: Iterable[dict[str, Any]]) -> Stages:
    """From the events of a merged trace; times from the first of them on."""
    found: Stages = {"loading": [], "computing": [], "checkpointing": []}
    for event in events:
        if event.get("ph") != "X":
            continue
        stage = "computing" if event["name"] == "compute" else stage_of_io(str(event.get("args", {}).get("path", "")))
        if stage is not None:
            found[stage].append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
    first = min(begin for intervals in found.values() for begin, _ in intervals)
    return {stage: union((begin - first, end - first) for begin, end in intervals) for stage, intervals in found.items()}


def stage_of_io(path: str) -> str | None:
    """What a file is read or written for."""
    return "loading" if "/samples/" in path else "checkpointing" if "/checkpoints/" in path else None


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times, disjoint and in order."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def common(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Seconds in which both were under way."""
    return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in one for since, until in other)


def length(intervals: Iterable[Interval]) -> float:
    """Seconds."""
    return sum(end - begin for begin, end in intervals)


def describe(stages: Stages) -> str:
    """The overlap in words."""
    computing = stages["computing"]
    total = max(end for intervals in stages.values() for _, end in intervals)
    lines = [f"{total:.2f} s, computing {100 * length(computing) / total:.0f} % of it"]
    for stage in ("loading", "checkpointing"):
        took = length(stages[stage])
        hidden = 100 * common(stages[stage], computing) / took if took else 100
        lines.append(f"{stage}: {took:.2f} s, {hidden:.0f} % of it while the program computes")
    return "\n".join(lines)


def draw(stages: Stages, path: Path) -> None:
    """Each stage on a line of its own."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown, axis = plt.subplots(figsize=(10, 2.6))
    colours = {"checkpointing": "#c03d3e", "loading": "#3a923a", "computing": "#3b75af"}
    for line, (stage, colour) in enumerate(colours.items()):
        bars = [(begin, end - begin) for begin, end in stages[stage]]
        axis.broken_barh(bars, (line - 0.38, 0.76), color=colour)
    axis.set_yticks(range(len(colours)), list(colours))
    axis.set_xlabel("seconds")
    axis.set_xlim(left=0)
    axis.set_title(describe(stages).replace("\n", " · "), fontsize=8)
    shown.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.savefig(path)
    plt.close(shown)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
