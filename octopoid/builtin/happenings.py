"""One JSON line on stdout for everything that happens: what `octopoid log` and the adapter read."""

from __future__ import annotations

import json
import os
from typing import Any


def say(kind: str, **fields: Any) -> None:
    """Print one line, whole and at once. `type` comes first; the adapter looks for it there."""
    line = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n"
    data = line.encode("utf-8", "replace")
    while data:
        data = data[os.write(1, data) :]
