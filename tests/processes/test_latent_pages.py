"""Latent pages mean the same after a trip through the cache: the code of docs/kvcache-latent-pages.md beside plain attention."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fs3
from fs3.cli.local import LocalCluster
from tests.space import SpaceGuard

pytestmark = pytest.mark.processes

LAYERS, HEADS, VOCABULARY = 3, 4, 50
HEAD_VALUES = 128
PROMPTS = 6
PROMPT_TOKENS = 5 * 64 + 17
SHARED_TOKENS = 2 * 64
PAGE_BYTES = LAYERS * 64 * 576 * 2


def documented() -> Any:
    """What the document's code defines."""
    text = (Path(__file__).parents[2] / "docs" / "kvcache-latent-pages.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "kvcache-latent-pages.md", "exec"), names)
    return SimpleNamespace(**names)


class Model:
    """Latents that depend on every token up to theirs, and the projections of one attention."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self._embedding = rng.standard_normal((VOCABULARY, LAYERS, 576)).astype(np.float32)
        self.key_projection = rng.standard_normal((HEADS, HEAD_VALUES, 512)) / 23
        self.value_projection = rng.standard_normal((HEADS, HEAD_VALUES, 512)) / 23
        self.query = rng.standard_normal((HEADS, HEAD_VALUES))
        self.rotated_query = rng.standard_normal((HEADS, 64))
        self.computed_pages = 0

    def latents(self, tokens: np.ndarray) -> np.ndarray:
        """All of them, as float32 that are BF16."""
        own = self._embedding[tokens]
        before = np.cumsum(own, axis=0) / np.arange(1, len(tokens) + 1)[:, None, None]
        values = (own + before).astype(np.float32).transpose(1, 0, 2)
        return np.ascontiguousarray(values).view(np.uint32) >> 16

    def compute(self, tokens: np.ndarray, begin: int, end: int) -> np.ndarray:
        """The latents of one page, as an engine computes them."""
        self.computed_pages += 1
        return self.latents(tokens)[:, begin:end].astype(np.uint16)

    def absorbed_query(self) -> np.ndarray:
        """Of the heads, with the projection of keys in it."""
        return np.concatenate([np.einsum("hv,hvl->hl", self.query, self.key_projection), self.rotated_query], axis=1)

    def plain_attention(self, tokens: np.ndarray, layer: int) -> np.ndarray:
        """With keys and values of each head by themselves, from what was computed and never stored."""
        rows = (self.latents(tokens)[layer] << 16).view(np.float32).astype(np.float64)
        latent, rotated = rows[:, :512], rows[:, 512:]
        outputs = []
        for head in range(HEADS):
            keys = latent @ self.key_projection[head].T
            values = latent @ self.value_projection[head].T
            scores = (keys @ self.query[head] + rotated @ self.rotated_query[head]) / np.sqrt(HEAD_VALUES + 64)
            weights = np.exp(scores - scores.max())
            outputs.append(weights @ values / weights.sum())
        return np.stack(outputs)


def prompts() -> list[np.ndarray]:
    """They begin alike."""
    rng = np.random.default_rng(8)
    shared = rng.integers(0, VOCABULARY, SHARED_TOKENS)
    return [np.concatenate([shared, rng.integers(0, VOCABULARY, PROMPT_TOKENS - SHARED_TOKENS)]) for _ in range(PROMPTS)]


class Engine:
    """Serves prompts, each time with an empty pool."""

    def __init__(self, cache: fs3.KVCache | None) -> None:
        self.model = Model()
        self._cache = cache
        self._code = documented()

    async def serve(self, tokens: np.ndarray) -> tuple[np.ndarray, int]:
        """The attention of every layer, and how many pages came from the cache."""
        pool = self._code.PagedPool(LAYERS, 20)
        np.random.default_rng(len(tokens)).shuffle(pool.free)
        cache = self._cache if self._cache is not None else _NoCache()
        blocks, restored = await self._code.prefill(cache, pool, tokens, self.model.compute)
        query = self.model.absorbed_query()
        found = [self._code.attend(query, pool, layer, blocks, len(tokens)) for layer in range(LAYERS)]
        return np.stack(found), restored


class _NoCache:
    async def lookup(self, keys: list[bytes]) -> Any:
        return SimpleNamespace(hits=0)

    async def get_into(self, keys: list[bytes], buffers: list[Any]) -> list[Any]:
        return []

    async def put_from(self, keys: list[bytes], buffers: list[Any]) -> None:
        pass


@pytest.fixture(scope="module")
def cluster(space_guard: SpaceGuard) -> Iterator[LocalCluster]:
    with space_guard.lend("latent", shared=True) as home, LocalCluster(home / "cluster", replicas=2, targets=1) as local:
        yield local


@asynccontextmanager
async def opened(cluster: LocalCluster, name: str, **settings: Any) -> AsyncIterator[fs3.KVCache]:
    async with await fs3.KVCache.open(
        cluster.url, namespace=name, page_bytes=PAGE_BYTES, replicas=2, timeout=20.0, **settings
    ) as cache:
        yield cache


async def plain_results() -> list[np.ndarray]:
    engine = Engine(None)
    return [(await engine.serve(tokens))[0] for tokens in prompts()]


async def test_attention_over_latents_is_attention_over_keys_and_values() -> None:
    model = Model()
    for tokens, found in zip(prompts(), await plain_results(), strict=True):
        for layer in range(LAYERS):
            values = np.einsum("hl,hvl->hv", found[layer], model.value_projection)
            np.testing.assert_allclose(values, model.plain_attention(tokens, layer), rtol=1e-5, atol=1e-7)


async def test_restored_pages_give_the_same_attention(cluster: LocalCluster) -> None:
    expected = await plain_results()
    async with opened(cluster, "latent") as cache:
        first, second = Engine(cache), Engine(cache)
        for turn, engine in enumerate((first, second)):
            for number, tokens in enumerate(prompts()):
                found, restored = await engine.serve(tokens)
                assert np.array_equal(found, expected[number])
                # Full pages are stored; the shared ones are found by every prompt but the first.
                assert restored == (5 if turn else 2 if number else 0)
        assert second.model.computed_pages == PROMPTS


async def test_under_a_budget_that_evicts_it_is_the_same(cluster: LocalCluster) -> None:
    expected = await plain_results()
    async with opened(cluster, "latent-small", budget_bytes=9 * PAGE_BYTES) as cache:
        engine = Engine(cache)
        restored_pages = []
        for _ in range(3):
            for number, tokens in enumerate(prompts()):
                found, restored = await engine.serve(tokens)
                assert np.array_equal(found, expected[number])
                restored_pages.append(restored)
        assert min(restored_pages[PROMPTS:]) < 5


async def test_after_the_death_of_a_node_it_is_the_same(cluster: LocalCluster) -> None:
    expected = await plain_results()
    async with opened(cluster, "latent-failover") as cache:
        engine = Engine(cache)
        for tokens in prompts():
            await engine.serve(tokens)
        cluster.kill("storage-1")
        try:
            restored_pages = 0
            for number, tokens in enumerate(prompts()):
                found, restored = await engine.serve(tokens)
                assert np.array_equal(found, expected[number])
                restored_pages += restored
            assert restored_pages
        finally:
            cluster.start("storage-1")
