"""A built-in step as a program of its own, because it runs what an agent may have changed and is therefore shut in.

That is: the user's git hooks, which lie in the worktree with husky. What it writes counts as the agent's word.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from octopoid import git, workspace

PROGRAM = "from octopoid.inside import main; main()"


def main() -> None:
    """`PROGRAM ARGUMENTS PACKAGE`: commit what the agent left. ARGUMENTS: those of `workspace.collect`, as JSON."""
    arguments = json.loads(sys.argv[1])
    status = workspace.collect(**arguments)
    # What is broken here is its own view: the task's fault, but for a user whom git does not know.
    at = Path(arguments["root"])
    sys.exit(status if status == workspace.TROUBLE and not git.identity(at) else min(status, workspace.FAILED))
