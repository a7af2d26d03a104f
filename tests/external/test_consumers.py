"""Libraries that read and write through fsspec, on a real cluster."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

pytestmark = [
    pytest.mark.external,
    pytest.mark.processes,
    pytest.mark.timeout(180),
    # What these libraries warn about among themselves, and that fork() and threads do not go together in general.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def url(cluster_url: str) -> Iterator[str]:
    """An empty directory of the test's own, as a URL."""
    fs = fsspec.filesystem("fs3", cluster=cluster_url.partition("://")[2])
    path = f"/consumer-{uuid.uuid4().hex[:12]}"
    fs.mkdir(path)
    yield cluster_url + path
    fs.rm(path, recursive=True)


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


# --- tables ----------------------------------------------------------------------------------------------------------


def test_pandas_parquet_csv_and_pickle(url: str) -> None:
    pandas = library("pandas")
    library("pyarrow")
    frame = pandas.DataFrame({"number": range(100_000), "text": [f"row {index}" for index in range(100_000)]})
    frame.to_parquet(f"{url}/x.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(f"{url}/x.parquet"), frame)
    assert list(pandas.read_parquet(f"{url}/x.parquet", columns=["number"]).columns) == ["number"]
    frame[:1000].to_csv(f"{url}/x.csv.gz", index=False)
    pandas.testing.assert_frame_equal(pandas.read_csv(f"{url}/x.csv.gz"), frame[:1000], check_dtype=False)
    frame.to_pickle(f"{url}/x.pickle")
    pandas.testing.assert_frame_equal(pandas.read_pickle(f"{url}/x.pickle"), frame)


def test_pyarrow_files_and_datasets(url: str) -> None:
    arrow, dataset, parquet = library("pyarrow"), library("pyarrow.dataset"), library("pyarrow.parquet")
    fs, path = fsspec.core.url_to_fs(url)
    table = arrow.table({"key": [index % 4 for index in range(40_000)], "value": list(range(40_000))})
    parquet.write_table(table, f"{path}/one.parquet", filesystem=fs)
    assert parquet.read_table(f"{path}/one.parquet", filesystem=fs).equals(table)
    dataset.write_dataset(table, f"{path}/parts", format="parquet", partitioning=["key"], filesystem=fs)
    parts = dataset.dataset(f"{path}/parts", format="parquet", partitioning=["key"], filesystem=fs)
    assert len(parts.files) == 4
    assert parts.count_rows() == 40_000
    assert parts.to_table(filter=dataset.field("key") == 2).num_rows == 10_000
    assert parts.to_table().sort_by("value")["value"].equals(table["value"])


def test_pyarrow_filesystem(url: str) -> None:
    arrow = library("pyarrow.fs")
    fs, path = fsspec.core.url_to_fs(url)
    native = arrow.PyFileSystem(arrow.FSSpecHandler(fs))
    assert native.type_name == "py::fsspec+fs3"
    assert native == arrow.PyFileSystem(arrow.FSSpecHandler(fsspec.core.url_to_fs(url)[0]))
    native.create_dir(f"{path}/a/b", recursive=True)
    native.create_dir(f"{path}/a/b", recursive=True)
    with native.open_output_stream(f"{path}/a/x") as out:
        out.write(b"0123456789")
    with native.open_append_stream(f"{path}/a/x") as out:
        out.write(b"ab")
    with native.open_input_file(f"{path}/a/x") as source:
        source.seek(8)
        assert source.read() == b"89ab"
    info = native.get_file_info(f"{path}/a/x")
    assert (info.type, info.size) == (arrow.FileType.File, 12)
    assert info.mtime is not None
    assert native.get_file_info(f"{path}/no").type == arrow.FileType.NotFound
    selected = native.get_file_info(arrow.FileSelector(path, recursive=True))
    assert {entry.path for entry in selected} == {f"{path}/a", f"{path}/a/b", f"{path}/a/x"}
    native.move(f"{path}/a", f"{path}/c")
    native.copy_file(f"{path}/c/x", f"{path}/c/y")
    native.delete_file(f"{path}/c/x")
    with pytest.raises(IsADirectoryError):
        native.delete_file(f"{path}/c")
    native.delete_dir_contents(f"{path}/c")
    native.delete_dir(f"{path}/c")
    assert native.get_file_info(arrow.FileSelector(path)) == []


# --- arrays and graphs -----------------------------------------------------------------------------------------------


def test_zarr(url: str) -> None:
    zarr = library("zarr")
    numpy = library("numpy")
    values = numpy.arange(300 * 200).reshape(300, 200)
    store = zarr.storage.FsspecStore.from_url(f"{url}/x.zarr")
    array = zarr.create_array(store, shape=values.shape, chunks=(64, 50), dtype=values.dtype)
    array[:] = values
    again = zarr.open_array(zarr.storage.FsspecStore.from_url(f"{url}/x.zarr"), mode="r")
    assert (again[10:200, 30:90] == values[10:200, 30:90]).all()
    group = zarr.open_group(zarr.storage.FsspecStore.from_url(f"{url}/group.zarr"), mode="w")
    group.create_array("a/b", shape=(10,), dtype="i4")[:] = 7
    assert (zarr.open_group(f"{url}/group.zarr", mode="r")["a/b"][:] == 7).all()


def test_dask(url: str) -> None:
    dask_bytes = library("dask.bytes")
    with fsspec.open(f"{url}/lines", "wt") as file:
        file.write("".join(f"line {index}\n" for index in range(10_000)))
    _, blocks = dask_bytes.read_bytes(f"{url}/lines", delimiter=b"\n", blocksize=20_000)
    assert len(blocks[0]) == 4
    lines = b"".join(block.compute(scheduler="threads") for block in blocks[0]).splitlines()
    assert lines == [f"line {index}".encode() for index in range(10_000)]


# --- training --------------------------------------------------------------------------------------------------------


class Records:
    """A map-style dataset of fixed-size records in one file; the filesystem travels to the workers."""

    size = 4096

    def __init__(self, url: str) -> None:
        self.fs, self.path = fsspec.core.url_to_fs(url)
        self.count = self.fs.size(self.path) // self.size

    def __len__(self) -> int:
        return int(self.count)

    def __getitem__(self, index: int) -> int:
        data = self.fs.cat_file(self.path, index * self.size, (index + 1) * self.size)
        assert len(data) == self.size
        return int.from_bytes(data[:8], "little")


class OpenRecords(Records):
    """The same through a file that the parent has opened."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.file = self.fs.open(self.path, "rb")

    def __getitem__(self, index: int) -> int:
        self.file.seek(index * self.size)
        return int.from_bytes(self.file.read(self.size)[:8], "little")


@pytest.mark.parametrize("kind", [Records, OpenRecords])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_data_loader(url: str, start: str, kind: type[Records]) -> None:
    data = library("torch.utils.data")
    with fsspec.open(f"{url}/records", "wb") as file:
        file.write(b"".join(index.to_bytes(8, "little") + bytes(Records.size - 8) for index in range(200)))
    records = kind(f"{url}/records")
    assert records[7] == 7  # the parent has used the connection
    loader = data.DataLoader(
        records, batch_size=16, num_workers=2, multiprocessing_context=multiprocessing.get_context(start), persistent_workers=True
    )
    for _ in range(2):  # epochs
        seen = sorted(int(value) for batch in loader for value in batch)
        assert seen == list(range(200))
    assert records[8] == 8


def test_torch_save_and_load(url: str) -> None:
    torch = library("torch")
    weights = {"w": torch.arange(1_000_000, dtype=torch.float32), "b": torch.zeros(10)}
    with fsspec.open(f"{url}/model.pt", "wb") as file:
        torch.save(weights, file)
    with fsspec.open(f"{url}/model.pt", "rb") as file:
        again = torch.load(file, weights_only=True)
    assert torch.equal(again["w"], weights["w"])


def test_torch_distributed_checkpoint(url: str) -> None:
    torch = library("torch")
    checkpoint = library("torch.distributed.checkpoint")
    planner = library("torch.distributed.checkpoint._fsspec_filesystem")
    state = {f"layer{index}": torch.full((1000, 100), float(index)) for index in range(8)}
    for _ in range(2):  # over an existing one as well
        checkpoint.save(state, storage_writer=planner.FsspecWriter(f"{url}/step-1", thread_count=2), no_dist=True)
    fs, path = fsspec.core.url_to_fs(f"{url}/step-1")
    assert f"{path}/.metadata" in fs.ls(path, detail=False)
    assert not [name for name in fs.ls(path, detail=False) if name.endswith(".tmp")]
    loaded = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    checkpoint.load(loaded, storage_reader=planner.FsspecReader(f"{url}/step-1"), no_dist=True)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
