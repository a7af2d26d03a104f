"""Made traces: conversations that begin with shared prompts, and popular pages with scans between them.

What conversations look like is taken from what was published of such services: turns that each send all that was said before,
system prompts and documents that many conversations begin with, some of them by far the most (Mooncake, FAST 2025: half of all
blocks are used once, a few tens of thousands of times). `SERVICE` is calibrated to the published figures of the DeepSeek V3/R1
online service: of 608 billion input tokens a day 342 billion, 56.3 %, were found in the cache on disk, and a node of 8 GPUs takes
73.7 thousand input tokens a second.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from benches.replay.trace import BLOCK_TOKENS, Request

SERVICE_TOKENS_PER_SECOND = 73_700.0
"""Input tokens per second of one node of the service, those found in the cache among them."""
SERVICE_HIT_SHARE = 0.563
"""Of them, found in the cache."""
SERVICE_PAGE_TOKENS = 64
SERVICE_PAGE_BYTES = SERVICE_PAGE_TOKENS * 576 * 2 * 61
"""Latent pages in BF16: 576 values a token and layer, 61 layers."""


@dataclass(frozen=True)
class Conversations:
    """What conversations look like. Lengths are tokens, means unless it is said."""

    prompts: int = 50
    """System prompts there are; the second most popular is used half as often as the first, and so on."""
    prompt_tokens: int = 1500
    prompt_share: float = 0.7
    """Conversations that begin with one."""
    first_tokens: int = 4000
    """Of a first message, documents among them; the median is about half of it."""
    turn_tokens: int = 600
    """Of a further message."""
    output_tokens: int = 350
    another_turn: float = 0.55
    """How likely a further turn is."""
    pause_s: float = 60.0
    """Median time between an answer and the next message; a tenth of them take more than ten times as long."""
    per_second: float = 3.0
    """Conversations begun."""


SERVICE = Conversations(prompts=30, prompt_tokens=2000, first_tokens=2600, turn_tokens=700, another_turn=0.58)


NODE = Conversations(prompts=6, prompt_tokens=2500, first_tokens=2600, turn_tokens=700, another_turn=0.6, pause_s=3.0)
"""Fewer prompts and shorter pauses, so that a few hundred pages, which any machine has room for, find about as large
a part of the input as the service's disks do."""


def conversations(count: int, seed: int, shape: Conversations = SERVICE) -> list[Request]:
    """So many requests of conversations, by time."""
    rng = random.Random(seed)
    blocks = _Blocks()
    prompt_lengths = [max(_around(rng, shape.prompt_tokens), BLOCK_TOKENS) for _ in range(shape.prompts)]
    popularity = list(accumulate(1 / rank for rank in range(1, shape.prompts + 1)))
    turns: list[tuple[float, int, int, list[int], int]] = []  # when, tie, tokens of the history, its blocks, tokens that are new
    begins = 0.0
    made = 0
    requests: list[Request] = []
    while len(requests) < count:
        while not turns or begins <= turns[0][0]:
            history: list[int] = []
            tokens = 0
            if rng.random() < shape.prompt_share:
                prompt = bisect(popularity, rng.random() * popularity[-1])
                history = blocks.of_prompt(prompt, prompt_lengths[prompt])
                tokens = len(history) * BLOCK_TOKENS
            heapq.heappush(turns, (begins, made, tokens, history, _around(rng, shape.first_tokens)))
            made += 1
            begins += rng.expovariate(shape.per_second)
        when, _, tokens, history, new_tokens = heapq.heappop(turns)
        tokens += new_tokens
        known = history[: tokens // BLOCK_TOKENS]
        whole = [*known, *blocks.new(tokens // BLOCK_TOKENS - len(known))]
        last = blocks.new(1 if tokens % BLOCK_TOKENS else 0)
        output = _around(rng, shape.output_tokens)
        requests.append(Request(round(when * 1000), tokens, output, (*whole, *last)))
        if rng.random() < shape.another_turn:
            pause = shape.pause_s * math.exp(rng.gauss(0, 1.8))
            heapq.heappush(turns, (when + pause, made, tokens + output, whole, _around(rng, shape.turn_tokens)))
            made += 1
    return requests


def zipf_with_scans(
    count: int, seed: int, pages: int = 20_000, alpha: float = 0.9, scan_share: float = 0.3, scan_pages: int = 500
) -> list[Request]:
    """Requests of one page each, popular by Zipf's law, and of scans, whose pages are asked for once.

    Args:
        count: of requests.
        pages: that are asked for again and again.
        alpha: page k is asked for in proportion to k ** -alpha.
        scan_share: of all requests, those of scans.
        scan_pages: of one scan, one after the other.
    """
    rng = random.Random(seed)
    weights = list(accumulate(rank**-alpha for rank in range(1, pages + 1)))
    begin = scan_share / (scan_pages * (1 - scan_share))
    fresh, left = pages, 0
    requests = []
    for index in range(count):
        if not left and rng.random() < begin:
            left = scan_pages
        if left:
            left -= 1
            block, fresh = fresh, fresh + 1
        else:
            block = bisect(weights, rng.random() * weights[-1])
        requests.append(Request(index * 10, BLOCK_TOKENS, 1, (block,)))
    return requests


class _Blocks:
    """Hands out ids, and remembers those of prompts."""

    def __init__(self) -> None:
        self._next = 0
        self._prompts: dict[int, list[int]] = {}

    def new(self, count: int) -> list[int]:
        first = self._next
        self._next += max(count, 0)
        return list(range(first, self._next))

    def of_prompt(self, prompt: int, tokens: int) -> list[int]:
        if prompt not in self._prompts:
            self._prompts[prompt] = self.new(tokens // BLOCK_TOKENS)
        return self._prompts[prompt]


def _around(rng: random.Random, mean: int) -> int:
    """Tokens whose logarithm is normal: many short, few very long; at least one."""
    sigma = 1.0
    return max(1, round(mean * math.exp(rng.gauss(-sigma * sigma / 2, sigma))))


def distinct(requests: list[Request]) -> Iterator[int]:
    """Each block once."""
    yield from {block for request in requests for block in request.blocks}
