"""Tables: what reads and writes Parquet and CSV."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.external.library import library

pytestmark = [
    pytest.mark.external,
    pytest.mark.processes,
    pytest.mark.timeout(180),
    # What these libraries warn about among themselves, and that fork() and threads do not go together in general.
    pytest.mark.filterwarnings("ignore"),
]


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


def test_pyarrow_by_url(url: str, tmp_path: Path) -> None:
    """Its own parser of URLs asks fsspec for what begins with "fsspec+"."""
    arrow, dataset, parquet, files = (library(f"pyarrow{part}") for part in ("", ".dataset", ".parquet", ".fs"))
    url = f"fsspec+{url}"
    table = arrow.table({"key": [index % 4 for index in range(1000)], "value": list(range(1000))})
    parquet.write_table(table, f"{url}/one.parquet")
    assert parquet.read_table(f"{url}/one.parquet").equals(table)
    dataset.write_dataset(table, f"{url}/parts", format="parquet", partitioning=["key"])
    assert dataset.dataset(f"{url}/parts", partitioning=["key"]).count_rows() == 1000
    (tmp_path / "here").mkdir()
    files.copy_files(f"{url}/parts/2", str(tmp_path / "here"))
    assert parquet.read_table(tmp_path / "here")["value"].to_pylist() == list(range(2, 1000, 4))
    files.copy_files(str(tmp_path / "here"), f"{url}/back")
    assert dataset.dataset(f"{url}/back").count_rows() == 250


PARTITIONED = """
import resource, sys, fsspec, pyarrow as pa, pyarrow.dataset as ds
fs, path = fsspec.url_to_fs(sys.argv[1])
table = pa.table({"key": [index % 500 for index in range(5000)], "value": list(range(5000))})
fs.pipe_file(f"{path}/first", b"connected")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ds.write_dataset(table, f"{path}/parts", format="parquet", partitioning=["key"], filesystem=fs, max_partitions=500)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
print(ds.dataset(f"{path}/parts", partitioning=["key"], filesystem=fs).count_rows())
"""


def test_pyarrow_holds_little_for_five_hundred_files_that_it_writes_at_once(url: str) -> None:
    library("pyarrow.dataset")
    said = subprocess.run([sys.executable, "-c", PARTITIONED, url], capture_output=True, text=True, check=True).stdout.split()
    grown_mib, rows = map(int, said)
    assert rows == 5000
    assert grown_mib < 300  # what is in the files is 1.6 MB


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


def test_dask(url: str) -> None:
    dask_bytes = library("dask.bytes")
    with fsspec.open(f"{url}/lines", "wt") as file:
        file.write("".join(f"line {index}\n" for index in range(10_000)))
    _, blocks = dask_bytes.read_bytes(f"{url}/lines", delimiter=b"\n", blocksize=20_000)
    assert len(blocks[0]) == 4
    lines = b"".join(block.compute(scheduler="threads") for block in blocks[0]).splitlines()
    assert lines == [f"line {index}".encode() for index in range(10_000)]


def test_dask_frames(url: str) -> None:
    frames, dask, pandas = library("dask.dataframe"), library("dask"), library("pandas")
    frame = frames.from_pandas(pandas.DataFrame({"x": range(1000)}), npartitions=8)
    with dask.config.set(scheduler="threads"):
        frame.to_csv(f"{url}/x-*.csv", index=False)
        assert len(frames.read_csv(f"{url}/x-*.csv")) == 1000
        frame.to_parquet(f"{url}/parts")
        frame.to_parquet(f"{url}/parts", overwrite=True)
        frame.to_parquet(f"{url}/parts", append=True, ignore_divisions=True)
        parts = frames.read_parquet(f"{url}/parts")
        assert len(parts) == 2000  # out of the files' ends, which it opens in a way of its own
        assert parts["x"].sum().compute() == 2 * 499_500


def test_dask_frames_by_worker_processes(url: str) -> None:
    distributed, frames, pandas = library("distributed"), library("dask.dataframe"), library("pandas")
    workers = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster):
        frames.from_pandas(pandas.DataFrame({"x": range(1000)}), npartitions=4).to_parquet(f"{url}/parts")
        assert frames.read_parquet(f"{url}/parts")["x"].sum().compute() == 499_500


def test_polars(url: str) -> None:
    polars = library("polars")
    frame = polars.DataFrame({"number": list(range(10_000)), "text": [f"row {index}" for index in range(10_000)]})
    with fsspec.open(f"{url}/x.parquet", "wb") as file:
        frame.write_parquet(file)
    with fsspec.open(f"{url}/x.parquet", "rb") as file:
        assert polars.read_parquet(file).equals(frame)
    with fsspec.open(f"{url}/x.csv", "wb") as file:
        frame.write_csv(file)
    assert polars.read_csv(fsspec.open(f"{url}/x.csv", "rb").open()).equals(frame)
    pyarrow_dataset = library("pyarrow.dataset")
    fs, path = fsspec.core.url_to_fs(url)
    lazy = polars.scan_pyarrow_dataset(pyarrow_dataset.dataset(f"{path}/x.parquet", filesystem=fs))
    assert lazy.filter(polars.col("number") >= 9_990).collect().height == 10


def test_duckdb(url: str) -> None:
    duckdb = library("duckdb")
    fs, path = fsspec.core.url_to_fs(url)
    database = duckdb.connect()
    database.register_filesystem(fs)
    database.execute("create table t as select range as a, 'row ' || range as b from range(10000)")
    database.execute(f"copy t to 'fs3://{path}/t.parquet' (format parquet)")
    assert database.execute(f"select count(*), sum(a) from 'fs3://{path}/t.parquet'").fetchone() == (10_000, 49_995_000)
    database.execute(f"export database 'fs3://{path}/whole' (format parquet)")
    assert {entry.rpartition("/")[2] for entry in fs.ls(f"{path}/whole", detail=False)} >= {"schema.sql", "load.sql", "t.parquet"}
    again = duckdb.connect()
    again.register_filesystem(fs)
    again.execute(f"import database 'fs3://{path}/whole'")
    assert again.execute("select count(*) from t").fetchone() == (10_000,)


def test_pyiceberg(url: str, tmp_path: Path) -> None:
    arrow = library("pyarrow")
    catalogs = library("pyiceberg.catalog.sql")
    catalog = catalogs.SqlCatalog(
        "local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=url, **{"py-io-impl": "fs3.api.integrations.iceberg.FS3FileIO"}
    )
    catalog.create_namespace("n")
    rows = arrow.table({"key": list(range(1000)), "text": [f"row {index}" for index in range(1000)]})
    table = catalog.create_table("n.t", schema=rows.schema)
    table.append(rows)
    table.append(rows)
    assert catalog.load_table("n.t").scan().to_arrow().num_rows == 2000
    assert catalog.load_table("n.t").scan(row_filter="key < 10").to_arrow().num_rows == 20
    table.delete("key < 500")
    assert catalog.load_table("n.t").scan().to_arrow().num_rows == 1000
    catalog.purge_table("n.t")


def test_hugging_face_datasets(url: str, tmp_path: Path) -> None:
    datasets = library("datasets")
    rows = datasets.Dataset.from_dict({"key": list(range(1000)), "text": [f"row {index}" for index in range(1000)]})
    rows.to_parquet(f"{url}/train.parquet")
    rows.save_to_disk(f"{url}/saved")
    assert datasets.load_from_disk(f"{url}/saved")["key"] == list(range(1000))
    options = {"cluster": url.partition("://")[2].partition("/")[0]}
    loaded = datasets.load_dataset(
        "parquet", data_files=f"{url}/train.parquet", split="train", cache_dir=str(tmp_path), storage_options=options
    )
    assert loaded["text"][-1] == "row 999"
    streamed = datasets.load_dataset(
        "parquet", data_files=f"{url}/train.parquet", split="train", streaming=True, storage_options=options
    )
    assert [row["key"] for row in streamed] == list(range(1000))
    by_url = datasets.load_dataset("parquet", data_files=f"{url}/train.parquet", split="train", streaming=True)
    assert next(iter(by_url)) == {"key": 0, "text": "row 0"}


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_of_every_kind_by_url(url: str, tmp_path: Path, streaming: bool) -> None:
    """It opens text, compressed files and archives each in a way of its own."""
    datasets = library("datasets")
    rows = datasets.Dataset.from_dict({"key": list(range(10))})
    rows.to_json(f"{url}/json/1.jsonl")
    rows.to_json(f"{url}/json/2.jsonl")
    rows.to_csv(f"{url}/1.csv")
    rows.to_json(f"{url}/1.jsonl.gz", compression="gzip")
    with fsspec.open(f"{url}/1.txt", "wt") as file:
        file.writelines(f"line {index}\n" for index in range(10))
    with fsspec.open(f"{url}/1.zip", "wb") as file, zipfile.ZipFile(file, "w") as out:
        out.writestr("inner.jsonl", "".join(f'{{"key": {index}}}\n' for index in range(10)))
    kinds = {"json/*.jsonl": "json", "1.csv": "csv", "1.jsonl.gz": "json", "1.txt": "text", "1.zip": "json"}
    how = {"streaming": True} if streaming else {"cache_dir": str(tmp_path)}
    for name, kind in kinds.items():
        found = list(datasets.load_dataset(kind, data_files=f"{url}/{name}", split="train", **how))
        assert len(found) == (20 if "*" in name else 10), name


def test_ray_data(url: str) -> None:
    ray = library("ray")
    data = library("ray.data")
    arrow = library("pyarrow.fs")
    fs, path = fsspec.core.url_to_fs(url)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    try:
        native = arrow.PyFileSystem(arrow.FSSpecHandler(fs))
        data.range(1000).write_parquet(f"{path}/parts", filesystem=native)
        assert data.read_parquet(f"{path}/parts", filesystem=native).count() == 1000
        assert data.read_parquet(f"{path}/parts", filesystem=fs).sum("id") == 499_500
        data.range(100).write_csv(f"fsspec+{url}/csv")
        assert data.read_csv(f"fsspec+{url}/csv").count() == 100
    finally:
        ray.shutdown()
