"""A result in the text of an answer: for programs that cannot be held to a schema."""

from __future__ import annotations

import json
import re

from octopoid.model import Result
from octopoid.results import OUTCOMES, parse_mapping

_OBJECT = re.compile(r"^\{", re.M)
_FENCE = re.compile(r"\n?```\s*\Z")


def word(answer: str) -> Result | None:
    """The result that `answer` is, or ends in: one JSON object with an outcome, also in a fence. None for prose.

    Raises Invalid for an object with an outcome that is no result.
    """
    text = _FENCE.sub("", answer.strip())
    for found in _OBJECT.finditer(text):
        try:
            value = json.loads(text[found.start() :])
        except (ValueError, RecursionError):
            continue
        return parse_mapping(value) if isinstance(value, dict) and value.get("outcome") in OUTCOMES else None
    return None
