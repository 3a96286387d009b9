"""What models cost, as data: US dollars per million tokens at the standard tier of each provider's own API.

A model that is not here has an unknown cost, which is never shown as nothing. `prices:` in agents.yaml adds to this
table and corrects it. A price whose provider's page could not be read is left out (Google's, on 2026-11-21; that of
gpt-5.6-sol, which OpenAI's page gives as an offer until that day).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from octopoid.model import Usage

AS_OF = "2026-10-24"
"""The day on which Anthropic's prices were last compared with its page."""
OPENAI_AS_OF = "2026-11-21"
"""The day on which OpenAI's prices were last compared with its pages."""
OWN = "agents.yaml"
"""What stands in place of a day where the price is the user's own."""

DEFAULT = "claude-sonnet-5-5"
"""The model of a built-in agent that names none."""

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
    """US dollars per million tokens; `cache_write` for five minutes. From `above` tokens in, `long` counts for all.

    `day`: when it was compared with the provider's page.
    """

    input: float
    output: float
    cache_write: float
    cache_read: float
    above: int = 0
    long: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    day: str = AS_OF

    def of(self, used: Tokens) -> float:
        """US dollars for one answer."""
        each = self.long if self.above and used.read > self.above else self[:4]
        counts = (used.input, used.output, used.cache_write, used.cache_read)
        return sum(count * one for count, one in zip(counts, each, strict=True)) / 1_000_000


_OPUS_5 = Price(5, 25, 6.25, 0.50)
_SONNET_4 = Price(3, 15, 3.75, 0.30)

# https://platform.claude.com/docs/en/about-claude/pricing and the overview pages of the models.
_ANTHROPIC = {
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


def _openai(read: float, output: float, cached: float) -> Price:
    """Cache writes cost 1.25 times the input; above 272,000 tokens in, twice what goes in and 1.5 times the output."""
    long = (read * 2, output * 1.5, read * 2.5, cached * 2)
    return Price(read, output, read * 1.25, cached, above=272_000, long=long, day=OPENAI_AS_OF)


# https://developers.openai.com/api/docs/models/MODEL, read from a stored copy of each page.
_OPENAI = {
    "gpt-5-nano": Price(0.05, 0.40, 0.05, 0.005, day=OPENAI_AS_OF),
    "gpt-5.6-luna": _openai(0.20, 1.20, 0.02),
    "gpt-5.6-terra": _openai(2, 12, 0.20),
    "gpt-6.1-terra": _openai(1, 5, 0.05),
    "gpt-6.2-sol": _openai(2, 10, 0.10),
}

PRICES: Mapping[str, Price] = {**_ANTHROPIC, **_OPENAI}

_DRESS = re.compile(r"\A(?:anthropic|openai)/|\[\w+\]\Z|-20\d\d-?\d\d-?\d\d(?=\Z|\[)")
"""What may stand around a model's name: who makes it, how long its conversations may be, its day."""


def model(name: str) -> str:
    """The model that a short name stands for; any other name as it is."""
    return ALIASES.get(name, name)


def known(name: str, own: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a model: the user's `own` first, with or without what stands around its name."""
    plain = _DRESS.sub("", name)
    for table in (own or {}, PRICES):
        for one in (name, plain):
            if one in table:
                return table[one]
    return None


def cost(name: str, used: Tokens) -> float | None:
    """US dollars for one answer of the model `name`; None = unknown."""
    price = known(name)
    return None if price is None else price.of(used)


def estimate(used: Usage, name: str, own: Mapping[str, Price] | None = None, *, one: bool = False) -> Usage:
    """`used`, with the cost where it is not told, the tokens are, and the price of the model `name` is known.

    Rather too much than too little: what does not come from the cache is counted as written to it, which is what
    agents do. Of answers added up (not `one` alone) nobody knows which were long: they cost the usual price.
    """
    price = (known(name, own) or known(model(name), own)) if name else None
    if used.usd is not None or price is None or used.input_tokens is None or used.output_tokens is None:
        return used
    cached = min(used.cached_tokens or 0, used.input_tokens)
    tokens = Tokens(0, used.output_tokens, cached, used.input_tokens - cached)
    each = price if one else price._replace(above=0)
    return used._replace(usd=each.of(tokens), priced=price.day)
