"""What models cost, as data. A model that is not here has an unknown cost, which is never shown as nothing.

US dollars per million tokens at the standard tier of Anthropic's own API, from
https://platform.claude.com/docs/en/about-claude/pricing and the overview pages of the models.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AS_OF = "2026-10-24"
"""The day on which these prices were last compared with that page."""

DEFAULT = "claude-sonnet-5-5"
"""The model of an agent that names none."""

ALIASES = {
    "": DEFAULT,
    "inherit": DEFAULT,
    "haiku": "claude-haiku-5-5",
    "opus": "claude-opus-5-5",
    "sonnet": "claude-sonnet-5-5",
}
"""Short names, as Claude Code's roles use them."""


class Tokens(NamedTuple):
    """What one answer used. `input`: neither read from the cache nor written to it."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def read(self) -> int:
        """All that went in: the length of the conversation."""
        return self.input + self.cache_read + self.cache_write


class Price(NamedTuple):
    """US dollars per million tokens; `cache_write` for five minutes. From `above` tokens in, `long` counts for all."""

    input: float
    output: float
    cache_write: float
    cache_read: float
    above: int = 0
    long: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


_OPUS_5 = Price(5, 25, 6.25, 0.50)
_SONNET_4 = Price(3, 15, 3.75, 0.30)

PRICES = {
    "claude-fable-5": Price(10, 50, 12.50, 1.00),
    "claude-fable-5-1": Price(10, 50, 12.50, 0.25),
    "claude-haiku-4-5": Price(1, 5, 1.25, 0.10),
    "claude-haiku-5-5": Price(0.10, 0.50, 0.125, 0.01, above=100_000, long=(0.50, 2.50, 0.625, 0.05)),
    "claude-opus-4-5": _OPUS_5,
    "claude-opus-4-6": _OPUS_5,
    "claude-opus-4-7": _OPUS_5,
    "claude-opus-4-8": _OPUS_5,
    "claude-opus-5": _OPUS_5,
    "claude-opus-5-5": Price(4, 20, 5.00, 0.20),
    "claude-sonnet-4-5": _SONNET_4,
    "claude-sonnet-4-6": _SONNET_4,
    "claude-sonnet-5": Price(2, 10, 2.50, 0.20),
    "claude-sonnet-5-5": Price(2, 10, 2.50, 0.10),
}

_DATED = re.compile(r"-20\d{6}\Z")


def model(name: str) -> str:
    """The model that a short name stands for; any other name as it is."""
    return ALIASES.get(name, name)


def known(name: str) -> Price | None:
    """The price of a model, with or without the date in its name."""
    return PRICES.get(_DATED.sub("", name))


def cost(name: str, used: Tokens) -> float | None:
    """US dollars for one answer of the model `name`; None = unknown."""
    price = known(name)
    if price is None:
        return None
    each = price.long if price.above and used.read > price.above else price[:4]
    counts = (used.input, used.output, used.cache_write, used.cache_read)
    return sum(count * one for count, one in zip(counts, each, strict=True)) / 1_000_000
