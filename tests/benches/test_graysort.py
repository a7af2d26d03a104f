"""GraySort: records are as specified, the stages sort, and validation cannot be fooled."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from benches import graysort
from benches.graysort import DataError, GraySortPlan, PlanError, StageError, Totals
from benches.graysort.checksum import totals_of
from benches.graysort.cli import main
from benches.graysort.directory import Directory
from benches.graysort.extents import Extent, group_extents, slice_files, split_evenly
from benches.graysort.mixing import random_words
from benches.graysort.records import (
    KEY_BYTES,
    RECORD_BYTES,
    Records,
    as_records,
    fill_records,
    key_prefix,
    key_suffix,
    partition_of,
)
from benches.graysort.shuffle_file import ShuffleIndex, read_index
from benches.graysort.stages.sort import order_by_key
from benches.graysort.summary import Summary
from benches.graysort.workspace import Workspace

MIB = 1 << 20


def plan_in(directory: Path, **options: Any) -> GraySortPlan:
    urls = {f"{kind}_url": f"file://{directory}/{kind}" for kind in ("input", "shuffle", "output")}
    defaults = {"records": 10_000, "workers": 0, "partitions": 4, "input_files": 3, "seed": 7}
    return GraySortPlan(**{**urls, **defaults, **options})


def made_records(count: int, first: int = 0, seed: int = 0) -> Records:
    rows = np.empty((count, RECORD_BYTES), dtype=np.uint8)
    fill_records(rows, first, seed)
    return rows


def keys_of(records: Records) -> list[bytes]:
    return [row[:KEY_BYTES].tobytes() for row in records]


few_keys = st.integers(0, 40).flatmap(lambda count: npst.arrays(np.uint8, (count, RECORD_BYTES), elements=st.integers(0, 2)))
"""Records over three byte values; cut down to few distinct keys by `with_few_keys`."""


def with_few_keys(records: Records) -> Records:
    records = records.copy()
    records[:, 1:9] = 0  # keys differ in the first and the last byte only: prefixes often tie
    return records


# ---------------------------------------------------------------- records


@given(number=st.integers(0, 2**63), seed=st.integers(0, 2**64 - 1))
def test_record_has_the_gensort_layout(number: int, seed: int) -> None:
    record = made_records(1, number, seed)[0].tobytes()
    assert record[10:12] == b"\x00\x11"
    assert record[12:44] == b"%032X" % number
    assert record[44:48] == b"\x88\x99\xaa\xbb"
    filler = record[48:96]
    assert all(filler[i : i + 4] == filler[i : i + 1] * 4 for i in range(0, 48, 4))
    assert set(filler) <= set(b"0123456789ABCDEF")
    assert record[96:] == b"\xcc\xdd\xee\xff"


def test_random_words_are_splitmix64() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    words = random_words(1234567, np.arange(3, dtype=np.uint64))
    assert words.tolist() == published


def test_key_and_filler_are_two_words_of_the_stream() -> None:
    high, low = random_words(9, np.array([10, 11], dtype=np.uint64)).tolist()
    record = made_records(1, first=5, seed=9)[0].tobytes()
    bits = high.to_bytes(8) + low.to_bytes(8)
    assert record[:10] == bits[:10]
    assert record[48:96:4].decode() == bits[10:].hex().upper()


@given(cut=st.integers(0, 500), seed=st.integers(0, 3))
def test_any_range_is_made_without_the_rest(cut: int, seed: int) -> None:
    whole = made_records(500, seed=seed)
    parts = [made_records(cut, 0, seed), made_records(500 - cut, cut, seed)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_seeds_name_different_data_sets() -> None:
    assert not set(keys_of(made_records(1000, seed=1))) & set(keys_of(made_records(1000, seed=2)))


@given(partitions=st.integers(1, 1 << 16))
def test_partitions_are_ranges_and_even(partitions: int) -> None:
    prefix = np.sort(key_prefix(made_records(5000)))
    edges = np.array([0, 2**64 - 1], dtype=np.uint64)
    partition = partition_of(prefix, partitions).astype(int)
    assert (np.diff(partition) >= 0).all()
    assert partition_of(edges, partitions).tolist() == [0, partitions - 1]
    expected = 5000 / partitions
    assert np.bincount(partition).max() < expected + 8 * expected**0.5 + 8


def test_key_suffix_compares_as_bytes_do() -> None:
    records = np.zeros((2, RECORD_BYTES), dtype=np.uint8)
    records[0, 8:10] = (1, 0)
    records[1, 8:10] = (0, 255)
    assert key_suffix(records).tolist() == [256, 255]


# ---------------------------------------------------------------- checksum and summary


@given(records=few_keys, data=st.data())
def test_checksum_is_of_the_set(records: Records, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(records))))
    assert totals_of(records[list(order)]) == totals_of(records)


@given(row=st.integers(0, 99), byte=st.integers(0, RECORD_BYTES - 1), mask=st.integers(1, 255))
def test_checksum_sees_every_changed_byte(row: int, byte: int, mask: int) -> None:
    records = made_records(100)
    before = totals_of(records)
    records[row, byte] ^= mask
    assert totals_of(records) != before


def test_checksum_sees_a_field_exchanged_between_two_records() -> None:
    records = made_records(2)
    before = totals_of(records)
    records[:, 48:52] = records[::-1, 48:52].copy()
    assert totals_of(records) != before


@given(records=few_keys.map(with_few_keys), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_summary_does_not_depend_on_the_cuts(records: Records, cuts: list[int]) -> None:
    pieces = np.split(records, sorted(min(cut, len(records)) for cut in cuts))
    joined = reduce(Summary.join, (Summary.of(piece) for piece in pieces), Summary())
    assert joined == Summary.of(records)
    keys = keys_of(records)
    descents = [i for i in range(1, len(keys)) if keys[i] < keys[i - 1]]
    assert joined.descents == len(descents)
    assert joined.descent_first == (descents[0] if descents else None)
    assert joined.duplicates == sum(a == b for a, b in pairwise(keys))


# ---------------------------------------------------------------- extents and shuffle files


@given(total=st.integers(0, 1000), parts=st.integers(1, 50))
def test_even_split_covers_everything(total: int, parts: int) -> None:
    slices = split_evenly(total, parts)
    assert [i for start, stop in slices for i in range(start, stop)] == list(range(total))
    assert max(b - a for a, b in slices) - min(b - a for a, b in slices) <= 1


@given(
    lengths=st.lists(st.integers(0, 30), max_size=6),
    parts=st.integers(1, 5),
    records_max=st.integers(1, 40),
)
def test_slices_and_groups_keep_the_order(lengths: list[int], parts: int, records_max: int) -> None:
    files = {f"f{i}": length for i, length in enumerate(lengths)}
    everything = [(name, i) for name, length in files.items() for i in range(length)]
    seen = []
    for start, stop in split_evenly(len(everything), parts):
        groups = list(group_extents(slice_files(files, start, stop), records_max))
        sizes = [sum(extent.records for extent in group) for group in groups]
        assert all(size == records_max for size in sizes[:-1])
        assert all(0 < size <= records_max for size in sizes)
        seen += [(e.name, i) for group in groups for e in group for i in range(e.start, e.stop)]
    assert seen == everything


@given(counts=npst.arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.integers(0, 9)))
def test_extents_of_all_partitions_tile_the_file(counts: np.ndarray) -> None:
    index = ShuffleIndex("s", counts)
    extents = sorted(e for partition in range(counts.shape[1]) for e in index.extents(partition))
    positions = [i for extent in extents for i in range(extent.start, extent.stop)]
    assert positions == list(range(index.records))


# ---------------------------------------------------------------- sorting


@given(records=few_keys.map(with_few_keys))
def test_order_is_that_of_a_stable_sort(records: Records) -> None:
    keys = keys_of(records)
    assert order_by_key(records).tolist() == sorted(range(len(keys)), key=keys.__getitem__)


@settings(max_examples=15, deadline=None)
@given(
    records=st.integers(1, 3000),
    partitions=st.integers(1, 40),
    input_files=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_sorts_any_shape_in_memory(records: int, partitions: int, input_files: int, seed: int) -> None:
    plan = GraySortPlan(
        records=records,
        input_url="memory://graysort/in",
        shuffle_url="memory://graysort/between",
        output_url="memory://graysort/out",
        workers=0,
        partitions=min(partitions, records),
        input_files=min(input_files, records),
        seed=seed,
    )
    report = graysort.run(plan)
    assert report.validation.is_valid
    assert report.validation.totals == totals_of(made_records(records, seed=seed))


def test_small_memory_makes_many_batches_of_the_same_result(tmp_path: Path) -> None:
    outputs, batches = [], []
    for mib in (16, 1024):
        plan = plan_in(tmp_path / str(mib), records=120_000, partitions=8, memory_bytes_max=mib * MIB)
        assert graysort.run(plan, keep=True).validation.is_valid
        outputs.append(output_records(plan).tobytes())
        (size,) = (home := Workspace(plan).shuffle).sizes().values()
        batches.append(len(read_index(home, home.name(0), size).counts))
    assert outputs[0] == outputs[1]
    assert batches[0] > batches[1] == 1


def test_data_set_does_not_depend_on_the_number_of_files(tmp_path: Path) -> None:
    data, totals = set(), set()
    for input_files in (1, 2, 7):
        plan = plan_in(tmp_path / str(input_files), input_files=input_files)
        totals.add(graysort.generate(plan))
        paths = sorted((tmp_path / str(input_files) / "input").iterdir())
        assert len(paths) == input_files
        data.add(b"".join(path.read_bytes() for path in paths))
    assert data == {made_records(plan.records, seed=plan.seed).tobytes()}
    assert totals == {totals_of(made_records(plan.records, seed=plan.seed))}


def test_end_to_end_with_processes(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, records=200_000, workers=2, partitions=5, input_files=4)
    seen: list[tuple[str, int, int]] = []
    report = graysort.run(plan, lambda *step: seen.append(step), keep=True)
    assert report.validation.is_valid
    assert report.validation.faults == ()
    assert [stage.stage for stage in report.stages] == ["generate", "shuffle", "sort", "validate"]
    written = [stage.written_bytes for stage in report.stages]
    assert written[0] == written[2] == plan.dataset_bytes
    assert written[1] - plan.dataset_bytes < 1000  # the indexes
    assert [stage.read_bytes for stage in report.stages] == [0] + [plan.dataset_bytes] * 3
    assert seen[-1] == ("validate", plan.dataset_bytes, plan.dataset_bytes)
    assert sorted(os.listdir(tmp_path / "shuffle")) == ["shuffle-00000.dat", "shuffle-00001.dat"]
    assert len(os.listdir(tmp_path / "output")) == 5

    records = made_records(plan.records, seed=plan.seed)
    assert np.array_equal(output_records(plan), records[order_by_key(records)])
    json.dumps(report.as_dict())
    assert no_children_left()


def test_files_are_removed_unless_kept(tmp_path: Path) -> None:
    bystander = tmp_path / "input" / "notes.txt"
    bystander.parent.mkdir()
    bystander.write_text("not ours")
    graysort.run(plan_in(tmp_path, partitions=1))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [bystander]
    assert not (tmp_path / "output").exists()


# ---------------------------------------------------------------- validation


@dataclass(frozen=True)
class Sorted:
    """A sorted data set on disk, to be damaged."""

    plan: GraySortPlan
    totals: Totals

    def path(self, partition: int) -> Path:
        return Path(self.plan.output_url.removeprefix("file://")) / f"output-{partition:05d}.dat"

    def read(self, partition: int) -> Records:
        return as_records(self.path(partition).read_bytes()).copy()

    def faults(self) -> str:
        validation = graysort.validate(self.plan, self.totals)
        assert validation.is_valid == (not validation.faults)
        return "\n".join(validation.faults)


def output_records(plan: GraySortPlan) -> Records:
    directory = Path(plan.output_url.removeprefix("file://"))
    return as_records(b"".join(path.read_bytes() for path in sorted(directory.iterdir())))


@pytest.fixture
def sorted_set(tmp_path: Path) -> Sorted:
    plan = plan_in(tmp_path)
    totals = graysort.generate(plan)
    graysort.shuffle(plan)
    graysort.sort(plan)
    return Sorted(plan, totals)


def test_intact_output_has_no_faults(sorted_set: Sorted) -> None:
    assert sorted_set.faults() == ""


def test_swapped_pair_is_found(sorted_set: Sorted) -> None:
    records = sorted_set.read(1)
    records[[10, 11]] = records[[11, 10]]
    sorted_set.path(1).write_bytes(records.tobytes())
    assert sorted_set.faults() == (
        "output-00001.dat is not sorted: 1 record(s) are smaller than the one before, the first is record 11"
    )


def test_lost_record_is_found(sorted_set: Sorted) -> None:
    sorted_set.path(2).write_bytes(np.delete(sorted_set.read(2), 5, axis=0).tobytes())
    assert sorted_set.faults() == "9,999 records, expected 10,000"


def test_record_replaced_by_its_neighbour_is_found(sorted_set: Sorted) -> None:
    records = sorted_set.read(2)
    records[5] = records[4]
    sorted_set.path(2).write_bytes(records.tobytes())
    validation = graysort.validate(sorted_set.plan, sorted_set.totals)
    assert validation.duplicates == 1
    assert "checksum" in sorted_set.faults()


@pytest.mark.parametrize("byte", [9, 11, 30, 60, 99])
def test_flipped_byte_is_found(sorted_set: Sorted, byte: int) -> None:
    records = sorted_set.read(0)
    records[17, byte] ^= 1
    sorted_set.path(0).write_bytes(records.tobytes())
    assert "checksum" in sorted_set.faults()


def test_order_broken_across_files_is_found(sorted_set: Sorted) -> None:
    one, two = sorted_set.read(1), sorted_set.read(2)
    sorted_set.path(1).write_bytes(two.tobytes())
    sorted_set.path(2).write_bytes(one.tobytes())
    assert sorted_set.faults() == ("output-00002.dat begins with a smaller key than output-00001.dat ends with")


def test_order_is_checked_across_an_empty_file(sorted_set: Sorted) -> None:
    one, two, three = (sorted_set.read(partition) for partition in (1, 2, 3))
    sorted_set.path(1).write_bytes(three.tobytes())
    sorted_set.path(2).write_bytes(b"")
    sorted_set.path(3).write_bytes(np.concatenate([one, two]).tobytes())
    assert sorted_set.faults() == ("output-00003.dat begins with a smaller key than output-00001.dat ends with")


def test_truncated_file_is_found(sorted_set: Sorted) -> None:
    path = sorted_set.path(3)
    path.write_bytes(path.read_bytes()[:-1])
    faults = sorted_set.faults()
    assert "output-00003.dat is" in faults
    assert "ends inside a record" in faults
    assert "9,999 records, expected 10,000" in faults


def test_missing_and_foreign_files_are_found(sorted_set: Sorted) -> None:
    sorted_set.path(3).rename(sorted_set.path(4))
    assert "output-00003.dat is missing" in sorted_set.faults()
    assert "output-00004.dat is not of this run" in sorted_set.faults()


def test_duplicate_keys_are_counted_and_allowed(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, records=100, partitions=3, input_files=1)
    graysort.generate(plan)
    path = tmp_path / "input" / "input-00000.dat"
    records = as_records(path.read_bytes()).copy()
    records[:10, :KEY_BYTES] = 255
    path.write_bytes(records.tobytes())
    graysort.shuffle(plan)
    graysort.sort(plan)
    validation = graysort.validate(plan, totals_of(records))
    assert validation.is_valid
    assert validation.duplicates == 9


# ---------------------------------------------------------------- bad options and bad files


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"records": 0}, "records=0"),
        ({"records": -5}, "records=-5"),
        ({"workers": -1}, "workers=-1"),
        ({"partitions": 0}, "partitions=0"),
        ({"records": 10, "input_files": 1, "partitions": 11}, "between 1 and 10"),
        ({"records": 10**6, "partitions": 65_537}, "between 1 and 65,536"),
        ({"records": 10**9, "partitions": 16}, "use more partitions"),
        ({"input_files": 0}, "input_files=0"),
        ({"seed": 2**64}, "seed="),
        ({"memory_bytes_max": 1000}, "memory_bytes_max=1,000"),
        ({"stall_seconds_max": 0.0}, "stall_seconds_max"),
        ({"output_url": ""}, "output_url is empty"),
        ({"input_url": "memory://x", "workers": 2}, "use workers=0"),
    ],
)
def test_bad_option_is_named(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        plan_in(tmp_path, **options)


def test_unknown_protocol_is_a_plan_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="input_url 'nosuch://x'"):
        graysort.run(plan_in(tmp_path, input_url="nosuch://x"))


def test_missing_input_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"input directory .* does not exist"):
        graysort.shuffle(plan_in(tmp_path))


def test_truncated_input_file(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    graysort.generate(plan)
    path = tmp_path / "input" / "input-00001.dat"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"input-00001\.dat .* no multiple of 100"):
        graysort.shuffle(plan)
    path.unlink()
    with pytest.raises(DataError, match="the plan says 10,000"):
        graysort.shuffle(plan)


def test_files_of_an_older_run_are_not_overwritten(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    graysort.generate(plan)
    with pytest.raises(DataError, match=r"already holds 3 input file\(s\)"):
        graysort.run(plan)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:10], "too few"),
        (lambda data: data[:-1], "does not end in a shuffle trailer"),
        (lambda data: data[100:], "do not make"),
        (lambda data: data[:-40] + b"\x01" + data[-39:], "does not match its checksum"),
        (lambda data: data[:-28] + b"\xff" + data[-27:], "do not make"),
    ],
)
def test_corrupt_shuffle_index(tmp_path: Path, damage: Any, said: str) -> None:
    plan = plan_in(tmp_path)
    graysort.generate(plan)
    graysort.shuffle(plan)
    path = tmp_path / "shuffle" / "shuffle-00000.dat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=said) as caught:
        graysort.sort(plan)
    assert "shuffle-00000.dat" in str(caught.value)


def test_sort_needs_the_shuffle_of_its_own_plan(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    graysort.generate(plan)
    graysort.shuffle(plan)
    with pytest.raises(DataError, match="has 4 partitions, the plan 5"):
        graysort.sort(replace(plan, partitions=5))


def test_partition_that_outgrew_its_memory(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, records=60_000, memory_bytes_max=16 * MIB, input_files=1)
    graysort.generate(plan)
    path = tmp_path / "input" / "input-00000.dat"
    records = as_records(path.read_bytes()).copy()
    records[:, 0] = 0  # skew: all keys in the first partition
    path.write_bytes(records.tobytes())
    graysort.shuffle(plan)
    with pytest.raises(DataError, match="partition 0 holds 60,000 records"):
        graysort.sort(plan)


def test_short_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "input-00000.dat").write_bytes(bytes(250))
    directory = Directory("input", f"file://{tmp_path}", {})
    extents = [Extent("input-00000.dat", 0, 1), Extent("input-00000.dat", 2, 3)]
    with pytest.raises(DataError, match="asked for bytes 200 to 300, got 50"):
        list(directory.read(extents, records_max=10))


# ---------------------------------------------------------------- workers


@dataclass(frozen=True)
class Misbehave:
    """A task that goes wrong in a chosen way; `part` says which."""

    part: str

    def run(self, workspace: Workspace) -> str:
        if self.part == "raise":
            raise ValueError("as told")
        if self.part == "exit":
            os._exit(3)
        if self.part == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.part == "hang":
            time.sleep(600)
        return self.part


def no_children_left() -> bool:
    return not [p for p in multiprocessing.active_children() if p.name.startswith("graysort")]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("raise", "ValueError: as told"),
        ("exit", "has died with exit code 3"),
        ("kill", "was killed by SIGKILL"),
        ("hang", "no progress for 5 s"),
    ],
)
def test_failing_worker_stops_the_crew(tmp_path: Path, part: str, said: str) -> None:
    # Only one that hangs is found by the time it takes; on a busy machine the others may not be taken for one.
    plan = plan_in(tmp_path, workers=2, stall_seconds_max=5.0 if part == "hang" else 60.0)
    with pytest.raises(StageError) as caught, graysort.open_crew(plan) as crew:
        crew.run("sort", [Misbehave("work"), Misbehave(part), Misbehave("work")], 0)
    assert str(caught.value).startswith(f"sort, {part}: ")
    assert str(caught.value).endswith(said)
    assert no_children_left()


def test_results_come_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    parts = [f"part {index}" for index in range(20)]
    with graysort.open_crew(plan_in(tmp_path, workers=2)) as crew:
        assert crew.run("sort", [Misbehave(part) for part in parts], 0) == parts
        assert crew.run("sort", [], 0) == []
    assert no_children_left()
    with pytest.raises(RuntimeError, match="open another"):
        crew.run("sort", [Misbehave("late")], 0)


def test_failure_in_the_calling_process_is_the_same_error(tmp_path: Path) -> None:
    with (
        graysort.open_crew(plan_in(tmp_path)) as crew,
        pytest.raises(StageError, match="sort, raise: ValueError: as told"),
    ):
        crew.run("sort", [Misbehave("raise")], 0)


# ---------------------------------------------------------------- command line


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    urls = [f"--{kind}=file://{tmp_path}/{kind}" for kind in ("input", "shuffle", "output")]
    return ["--records=1_000", "--workers=0", "--partitions=2", *urls]


def test_command_line_prints_a_table(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:5]] == [
        "generate",
        "shuffle",
        "sort",
        "validate",
    ]
    assert "1,000 records" in out
    assert "passed" in out
    assert err == ""  # not a terminal: no bars


def test_command_line_prints_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json", "--seed=3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_valid"] is True
    assert report["seed"] == 3
    assert report["checksum"] == f"{totals_of(made_records(1000, seed=3)).checksum:016x}"


def test_command_line_fails_when_validation_does(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sort_and_damage(plan: GraySortPlan, crew: graysort.Crew) -> None:
        graysort.sort(plan, crew)
        path = tmp_path / "output" / "output-00000.dat"
        path.write_bytes(path.read_bytes()[:-100])

    monkeypatch.setattr("benches.graysort.pipeline.sort", sort_and_damage)
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "999 records, expected 1,000" in out
    assert (tmp_path / "output" / "output-00000.dat").exists()  # evidence


def test_command_line_names_what_is_wrong(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--partitions=0"])
    assert caught.value.code == 2
    assert "partitions=0" in capsys.readouterr().err
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "output-00000.dat").write_bytes(b"old")
    assert main(arguments) == 2
    assert "already holds" in capsys.readouterr().err
