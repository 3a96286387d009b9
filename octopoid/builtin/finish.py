"""The tool `finish`: the word of a role, checked while the model can still mend it, into `result.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octopoid import durable
from octopoid.adapters import claudeflags
from octopoid.errors import Invalid
from octopoid.model import Result
from octopoid.results import parse_mapping

NAME = "finish"
_COMMITS = "document"
"""Who makes commits may say what who writes a document may say."""


def schema(produces: str) -> dict[str, Any]:
    """What a role of this kind may say: its part of `octopoid schema result`."""
    _, text = claudeflags.word(_COMMITS if produces == "commits" else produces)
    found: dict[str, Any] = json.loads(text)
    return found


def accept(given: Mapping[str, Any], produces: str, result_file: Path) -> Result:
    """Write the word down. Raises Invalid where it is none for this kind of role: nothing was written then."""
    known = schema(produces)["properties"]
    said = parse_mapping(given)
    outcomes = known["outcome"]["enum"]
    if said.outcome not in outcomes:
        raise Invalid(f"`outcome` must be one of {', '.join(outcomes)}")
    extra = [key for key, value in given.items() if key not in known and value]
    if extra:
        raise Invalid(f"`{extra[0]}` means nothing here; there are: {', '.join(known)}")
    if produces == "tasks" and said.outcome == "done" and not said.subtasks:
        raise Invalid("outcome `done` without `subtasks`")
    if said.outcome == "reject" and not (said.feedback or said.findings):
        raise Invalid("outcome `reject` without `feedback`: say what must change")
    durable.write(result_file, json.dumps(dict(given), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    return said
