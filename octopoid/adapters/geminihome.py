"""Gemini CLI's home folder for one attempt: the user's own `.gemini`, by links, but settings and rules of our own.

    python geminihome.py FOLDER SETTINGS RULES

Run as a program before `gemini` starts (standard library only): there is no flag for most settings, and a settings file
of the system has to belong to root (0.61.0). Logins, extensions and sessions are the user's, through the links; the
folder goes with the attempt.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

BROKEN = 52
"""What Gemini itself answers for settings that it cannot read."""
RULES = "rules.toml"
_STATE = ("tmp", "history")
"""Folders with sessions and what belongs to them: there before the first run, so that they are never ours alone."""
_COMMENTS = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)


def main(folder: Path, settings: str, rules: str, env: dict[str, str]) -> int:
    """Make `folder` the home of one attempt; the exit status."""
    user = Path(env.get("GEMINI_CLI_HOME") or env["HOME"])
    own = user / ".gemini"
    for name in _STATE:
        (own / name).mkdir(parents=True, exist_ok=True)
    try:
        merged = merge(load(own / "settings.json"), json.loads(settings))
    except ValueError as error:
        sys.stderr.write(f"Error in {own / 'settings.json'}: {error}\n")
        return BROKEN
    ours = folder / ".gemini"
    ours.mkdir()
    for entry in own.iterdir():
        if entry.name != "settings.json":
            (ours / entry.name).symlink_to(entry)
    _link(folder / ".agents", user / ".agents")
    # what is not trusted reads no `.gemini/.env`, but the one beside it for a key
    _link(folder / ".env", own / ".env", user / ".env")
    (ours / "settings.json").write_text(json.dumps(merged, indent=1), encoding="utf-8")
    (folder / RULES).write_text(rules, encoding="utf-8")
    return 0


def load(path: Path) -> dict[str, Any]:
    """The user's settings, which may have comments; {} where there are none. Raises ValueError."""
    text = ""
    with suppress(FileNotFoundError):
        text = path.read_text(encoding="utf-8-sig")
    value = json.loads(_COMMENTS.sub(lambda found: found[1] or " ", text)) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def merge(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """`theirs` with `ours` laid over it; a key that ends in `?` counts where they say nothing."""
    merged = dict(theirs)
    for key, value in ours.items():
        there = merged.get(key.rstrip("?"))
        if key.endswith("?"):
            merged.setdefault(key[:-1], value)
        elif isinstance(value, dict):
            merged[key] = merge(there if isinstance(there, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _link(place: Path, *targets: Path) -> None:
    for target in targets:
        if target.exists():
            place.symlink_to(target)
            return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], dict(os.environ)))
