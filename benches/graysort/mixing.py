"""SplitMix64 on whole arrays: the only source of pseudo-randomness in this benchmark.

SplitMix64 (Steele, Lea, Flood 2014) is a counter put through a bijection: word k of the stream
named by `seed` is `mix64(seed + (k + 1) * GAMMA)`. Any range of words can therefore be had on any
worker without the words before it, and numpy computes it at memory speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""Odd step of the counter: 2**64 divided by the golden ratio."""


def mix64(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble each word by SplitMix64's finaliser, a bijection of 64-bit words."""
    mixed = words ^ (words >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def random_words(seed: int, positions: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Words of the SplitMix64 stream `seed` at `positions`, in any order."""
    return mix64(np.uint64(seed) + (positions + np.uint64(1)) * GAMMA)
