"""Mooncake's store over TCP: `pip install mooncake-transfer-engine-non-cuda` (and Debian's `libibverbs1`).

One copy in the memory of a store node, gone when that ends; a master beside it. The calls are those without a copy, on registered
buffers, of many pages each.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benches.peers.processes import running, wait_until_served
from fs3.cli.ports import free_ports

MIB = 1 << 20
SEGMENT_BYTES = 1 << 30
"""Memory of the store node."""
TRANSFER_BYTES = 64 * MIB
"""Memory of a client for transfers of its own."""
QUIET = {"MC_LOG_LEVEL": "ERROR", "GLOG_minloglevel": "3", "MC_STORE_CLUSTER_ID": "bench"}
NODE = """
import sys, threading
from benches.peers.mooncake import connect
store = connect(int(sys.argv[1]), int(sys.argv[2]))
print("serving", flush=True)
threading.Event().wait()
"""


class Mooncake:
    """One client of the store."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._registered: set[tuple[int, int]] = set()

    def put(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """One call; every page must be stored."""
        self._expect(self._store.batch_put_from(*self._arguments(keys, values)), [0] * len(keys))

    def get_into(self, keys: Sequence[bytes], buffers: Sequence[memoryview]) -> None:
        """One call; every page must be there."""
        self._expect(self._store.batch_get_into(*self._arguments(keys, buffers)), [len(buffer) for buffer in buffers])

    def count(self, keys: Sequence[bytes]) -> int:
        """How many of these keys exist, by one call."""
        return sum(answer == 1 for answer in self._store.batch_is_exist([key.decode() for key in keys]))

    def clear(self) -> None:
        """Forget everything that was put; its keys must not be put again."""
        self._store.remove_all(True)

    def _arguments(self, keys: Sequence[bytes], buffers: Sequence[memoryview]) -> tuple[list[str], list[int], list[int]]:
        places = []
        for buffer in buffers:
            address = int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])
            if (address, len(buffer)) not in self._registered:
                if self._store.register_buffer(address, len(buffer)):
                    raise RuntimeError("Mooncake registers no buffer")
                self._registered.add((address, len(buffer)))
            places.append(address)
        return [key.decode() for key in keys], places, [len(buffer) for buffer in buffers]

    @staticmethod
    def _expect(answers: Sequence[int], wanted: Sequence[int]) -> None:
        if list(answers) != list(wanted):
            raise RuntimeError(f"Mooncake answered {list(answers)[:8]}")


def connect(master: int, segment_bytes: int) -> Any:
    """A store of this process, by the port of the master. RuntimeError when it cannot be set up."""
    os.environ.update(QUIET)
    store = importlib.import_module("mooncake.store").MooncakeDistributedStore()
    outcome = store.setup("127.0.0.1", "P2PHANDSHAKE", segment_bytes, TRANSFER_BYTES, "tcp", "", f"127.0.0.1:{master}")
    if outcome:
        raise RuntimeError(f"Mooncake's setup answered {outcome}")
    return store


def program() -> Path | None:
    """The master's, where the package is installed."""
    found = importlib.util.find_spec("mooncake")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "mooncake_master"


@contextmanager
def master(directory: Path) -> Iterator[int]:
    """Mooncake's master meanwhile; its port. The package must be installed."""
    port, metrics_port = free_ports(2), free_ports(1)
    command = [str(program()), f"--rpc_port={port}", f"--metrics_port={metrics_port}", "--rpc_address=127.0.0.1"]
    with running(command, directory / "mooncake-master.log"):
        yield port


@contextmanager
def node(directory: Path, port: int, segment_bytes: int) -> Iterator[None]:
    """A store node with so much memory meanwhile; `port`: the master's."""
    log = directory / "mooncake-node.log"
    with running([sys.executable, "-c", NODE, str(port), str(segment_bytes)], log) as process:

        def ask() -> None:
            if b"serving" not in log.read_bytes():
                raise LookupError("the node does not serve yet")

        wait_until_served([process], ask, LookupError)
        yield


@contextmanager
def mooncake(directory: Path) -> Iterator[Mooncake | None]:
    """A master, a store node and a client of them meanwhile; None where the package is not installed."""
    if program() is None:
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        port = stack.enter_context(master(directory))
        stack.enter_context(node(directory, port, SEGMENT_BYTES))
        store = connect(port, 0)
        stack.callback(store.close)
        yield Mooncake(store)
