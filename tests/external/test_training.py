"""Training: samples, weights and checkpoints."""

from __future__ import annotations

import io
import multiprocessing
import tarfile
from pathlib import Path
from typing import Any

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
    checkpoint.save(state, checkpoint_id=f"{url}/step-2", no_dist=True)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    checkpoint.load(loaded, checkpoint_id=f"{url}/step-2", no_dist=True)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def _checkpoint_rank(rank: int, url: str, rendezvous: str) -> None:
    import torch
    import torch.distributed as distributed
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    state = {f"rank{rank}": torch.full((1000,), float(rank)), "shared": torch.arange(1000.0)}
    checkpoint.async_save(state, storage_writer=FsspecWriter(f"{url}/step-1")).result()
    distributed.barrier()
    loaded = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    checkpoint.load(loaded, storage_reader=FsspecReader(f"{url}/step-1"))
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    distributed.destroy_process_group()


def test_torch_distributed_checkpoint_of_two_ranks_in_the_background(url: str, tmp_path: Path) -> None:
    library("torch.distributed.checkpoint._fsspec_filesystem")
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=_checkpoint_rank, args=(rank, url, str(tmp_path / "rendezvous"))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(150)
    assert [rank.exitcode for rank in ranks] == [0, 0]


def test_safetensors(url: str) -> None:
    torch = library("torch")
    safetensors = library("safetensors.torch")
    weights = {"w": torch.arange(100_000, dtype=torch.bfloat16), "b": torch.zeros(10)}
    with fsspec.open(f"{url}/model.safetensors", "wb") as file:
        file.write(safetensors.save(weights))
    with fsspec.open(f"{url}/model.safetensors", "rb") as file:
        again = safetensors.load(file.read())
    assert torch.equal(again["w"], weights["w"])


def test_webdataset(url: str) -> None:
    webdataset = library("webdataset")
    library("fs3.api.integrations.webdataset")
    with webdataset.ShardWriter(f"{url}/shard-%03d.tar", maxcount=10, opener=lambda name: fsspec.open(name, "wb").open()) as out:
        for index in range(25):
            out.write({"__key__": f"{index:04}", "cls": index, "bin": bytes([index]) * 1000})
    shards = [f"{url}/shard-{index:03}.tar" for index in range(3)]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert [sample["cls"] for sample in samples] == list(range(25))
    assert samples[7]["bin"] == bytes([7]) * 1000
    pattern = f"{url}/shard-{{000..002}}.tar"
    loader = webdataset.WebLoader(webdataset.WebDataset(pattern, shardshuffle=2).decode(), batch_size=None, num_workers=2)
    assert sorted(sample["cls"] for sample in loader) == list(range(25))
    with pytest.raises(FileNotFoundError, match=r"none\.tar"):
        list(webdataset.WebDataset(f"{url}/none.tar", shardshuffle=False))


def test_webdataset_shards_are_plain_tar_files(url: str) -> None:
    with fsspec.open(f"{url}/x.tar", "wb") as file, tarfile.open(fileobj=file, mode="w|") as out:
        member = tarfile.TarInfo("0001.txt")
        member.size = 4
        out.addfile(member, io.BytesIO(b"text"))
    webdataset = library("webdataset")
    library("fs3.api.integrations.webdataset")
    assert [sample["txt"] for sample in webdataset.WebDataset(f"{url}/x.tar", shardshuffle=False).decode()] == ["text"]


@pytest.fixture
def line() -> type:
    """A Lightning module."""
    lightning = library("lightning")
    torch = library("torch")

    class Line(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: object, _: int) -> object:
            loss = self.layer(batch[0]).square().mean()  # type: ignore[index]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> object:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Line


def _batches() -> Any:
    torch = library("torch")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 1)), batch_size=4)


QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def test_lightning(url: str, line: Any) -> None:
    lightning = library("lightning")
    torch = library("torch")
    trainer = lightning.Trainer(max_epochs=1, logger=False, default_root_dir=url, **QUIET)
    model = line()
    trainer.fit(model, _batches())
    trainer.save_checkpoint(f"{url}/last.ckpt")
    again = line.load_from_checkpoint(f"{url}/last.ckpt")
    assert torch.equal(again.layer.weight, model.layer.weight)
    assert fsspec.core.url_to_fs(url)[0].glob(f"{fsspec.core.url_to_fs(url)[1]}/checkpoints/*.ckpt")


def test_lightning_keeps_the_best_checkpoints_logs_and_resumes(url: str, line: Any) -> None:
    lightning = library("lightning")
    torch = library("torch")
    best = lightning.pytorch.callbacks.ModelCheckpoint(dirpath=f"{url}/best", save_top_k=2, monitor="loss", save_last=True)
    logger = lightning.pytorch.loggers.CSVLogger(f"{url}/logs")
    lightning.Trainer(max_epochs=4, callbacks=[best], logger=logger, log_every_n_steps=1, **QUIET).fit(line(), _batches())
    fs, path = fsspec.core.url_to_fs(url)
    assert len(fs.ls(f"{path}/best", detail=False)) == 3  # those that fell behind have been removed
    assert f"{path}/best/last.ckpt" in fs.ls(f"{path}/best", detail=False)
    assert len(fs.read_text(fs.glob(f"{path}/logs/**/metrics.csv")[0]).splitlines()) == 1 + 8
    line.load_from_checkpoint(best.best_model_path)
    resumed = lightning.Trainer(max_epochs=6, logger=False, default_root_dir=url, **QUIET)
    resumed.fit(line(), _batches(), ckpt_path=f"{url}/best/last.ckpt")
    assert resumed.current_epoch == 6
    fabric = lightning.Fabric(accelerator="cpu")
    fabric.save(f"{url}/fabric.ckpt", {"w": torch.ones(3)})
    assert torch.equal(fabric.load(f"{url}/fabric.ckpt")["w"], torch.ones(3))
