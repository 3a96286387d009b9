"""Does what a task says in lines `in: FILES` and `replace: PATTERN -> TEXT`: a regular expression, over many files.

Octopoid starts it in the worktree of a task, names the task's file in OCTOPOID_TASK_FILE, and commits what is changed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def main(task: str) -> int:
    """Change the files; the exit status. 1: nothing was changed, or the task does not say what to do."""
    files = [path for pattern in re.findall(r"^[ \t]*in: (.+)$", task, re.MULTILINE) for path in Path().glob(pattern)]
    replacements = re.findall(r"^[ \t]*replace: (.+?) -> (.*)$", task, re.MULTILINE)
    if not files or not replacements:
        print("the task needs lines `in: FILES`, which exist, and `replace: PATTERN -> TEXT`", file=sys.stderr)
        return 1
    changed = sum(change(path, replacements) for path in sorted(set(files)) if path.is_file())
    print(f"{changed} of {len(set(files))} files changed")
    return 0 if changed else 1


def change(path: Path, replacements: list[tuple[str, str]]) -> bool:
    """Whether one file was changed."""
    before = after = path.read_bytes().decode("utf-8", "surrogateescape")
    for pattern, text in replacements:
        after = re.sub(pattern, text, after)
    if after != before:
        path.write_bytes(after.encode("utf-8", "surrogateescape"))
    return after != before


if __name__ == "__main__":
    sys.exit(main(Path(os.environ["OCTOPOID_TASK_FILE"]).read_text(encoding="utf-8")))
