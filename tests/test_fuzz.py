"""No text that somebody else wrote is a bug of ours (fuzzing.py). `scripts/fuzz` looks longer, led by coverage."""

from __future__ import annotations

import pytest
from fuzzing import SEEDS, TARGETS, WORDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def spoiled(name: str) -> st.SearchStrategy[bytes]:
    """Examples with pieces cut out, doubled or replaced; and pieces alone."""
    piece = st.one_of(st.sampled_from(WORDS), st.binary(max_size=6))
    alone = st.lists(piece, max_size=12).map(b"".join)

    def spoil(parts: tuple[bytes, list[tuple[int, int, bytes]]]) -> bytes:
        data, changes = parts
        for start, length, instead in changes:
            at = start % (len(data) + 1)
            data = data[:at] + instead + data[at + length :]
        return data

    change = st.tuples(st.integers(0, 2000), st.integers(0, 30), piece)
    seeds = SEEDS.get(name, SEEDS["stream-claude"])
    return st.one_of(st.tuples(st.sampled_from(seeds), st.lists(change, max_size=4)).map(spoil), alone)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_it_says_it_is_read_or_refused(name: str) -> None:
    examples = 40 if name in ("policy", "flow", "role") else 120

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(spoiled(name))
    def read(data: bytes) -> None:
        TARGETS[name](data)

    read()


@pytest.mark.parametrize("name", SEEDS)
def test_the_examples_are_good_ones(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)
