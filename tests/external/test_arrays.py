"""Arrays of many dimensions."""

from __future__ import annotations

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


def test_zarr_beside_blocking_calls_of_the_same_process(url: str) -> None:
    zarr = library("zarr")
    numpy = library("numpy")
    fs, path = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{path}/x", b"before")
    zarr.create_array(f"{url}/y.zarr", shape=(8,), dtype="i4")[:] = numpy.arange(8)
    assert fs.cat_file(f"{path}/x") == b"before"
    assert zarr.open_array(f"{url}/y.zarr", mode="r")[7] == 7


def test_zarr_shards_groups_and_what_is_deleted(url: str) -> None:
    zarr = library("zarr")
    shards = zarr.create_array(f"{url}/s.zarr", shape=(100, 100), chunks=(10, 10), shards=(50, 50), dtype="f4")
    shards[:] = 3
    shards[5:7, 5:7] = 9  # into shards that are there
    assert float(zarr.open_array(f"{url}/s.zarr", mode="r")[:].sum()) == 3 * 9996 + 9 * 4
    group = zarr.open_group(f"{url}/g.zarr", mode="w", zarr_format=2)
    group.create_array("x", shape=(20,), dtype="i4", chunks=(5,))[:] = 1
    group.create_array("y", shape=(4,), dtype="i4")[:] = 2
    zarr.consolidate_metadata(f"{url}/g.zarr")
    assert sorted(zarr.open_consolidated(f"{url}/g.zarr").keys()) == ["x", "y"]
    del group["x"]
    assert list(zarr.open_group(f"{url}/g.zarr", mode="r", use_consolidated=False).keys()) == ["y"]
    fs, path = fsspec.core.url_to_fs(url)
    assert not [name for name in fs.find(f"{path}/g.zarr") if "/x/" in name]
    array = zarr.open_array(f"{url}/g.zarr/y", mode="r+")
    array.resize((8,))
    array[4:] = 5
    assert zarr.open_array(f"{url}/g.zarr/y", mode="r")[:].tolist() == [2] * 4 + [5] * 4


def test_xarray(url: str) -> None:
    xarray = library("xarray")
    numpy = library("numpy")
    library("zarr")
    values = xarray.Dataset(
        {"temperature": (("time", "x"), numpy.random.default_rng(0).random((30, 100)))}, coords={"time": numpy.arange(30)}
    )
    values.to_zarr(f"{url}/x.zarr", mode="w", consolidated=False)
    again = xarray.open_zarr(f"{url}/x.zarr", consolidated=False)
    assert again.sel(time=7).equals(values.sel(time=7))
    values.isel(time=slice(0, 1)).assign_coords(time=[30]).to_zarr(f"{url}/x.zarr", append_dim="time", consolidated=False)
    assert xarray.open_zarr(f"{url}/x.zarr", consolidated=False).sizes["time"] == 31
