"""What Codex may do in a role: a sandbox of the operating system, described by flags (measured with 0.169.0).

A role that writes commits; any other one looks, in a worktree that nothing of it is kept of. What is denied here is the
second line. The first is that octopoid throws away and reports what such a role changed (workspace.restore).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from octopoid.settings import Agent, Role

BYPASS = ("--dangerously-bypass-approvals-and-sandbox", "--yolo")
"""Words in `args` that mean: no sandbox."""

# What only the worktree knows is asked there: git's folder of a worktree that was moved keeps its old name, and codex
# protects that folder unless it is named exactly.
_WRITING = """\
own=$(git rev-parse --absolute-git-dir) && all=$(git rev-parse --path-format=absolute --git-common-dir) || exit
{program} exec --json {sandbox} "$@"
"""
# A user who trusts the project trusts `.codex/config.toml` in it, also that of a candidate: programs that it names for
# tools (MCP) run outside the sandbox. So a worktree that is only looked at is not trusted.
_LOOKING = """\
here=$(pwd -P) && {program} exec --json -c "projects={{\\"$here\\"={{trust_level=\\"untrusted\\"}}}}" {sandbox} "$@"
"""
_READ_ONLY = """-c 'sandbox_mode="read-only"'"""
# `/tmp` is not among what may be written: while a command runs, codex puts an empty `.git` into every such folder, and
# everybody's git on this machine would take `/tmp` for a repository (for good, if codex is killed then).
_TEMPORARY = """\
mkdir -p "$OCTOPOID_ATTEMPT_DIR/tmp" || exit
set -- -c "shell_environment_policy.set.TMPDIR=\\"$OCTOPOID_ATTEMPT_DIR/tmp\\"" "$@"
"""


def _open(*folders: str) -> tuple[tuple[str, str], ...]:
    """Rules for folders that may be written, also where codex would put its empty folders (see _TEMPORARY)."""
    inside = ("", "/.git", "/.agents", "/.aws", "/.codex")
    return tuple((f"{folder}{name}", "write") for folder in folders for name in inside)


# It cannot make its own sandbox inside of octopoid's ("Failed to write file"), and says itself that this is for there.
_INSIDE = """\
if [ -n "${{OCTOPOID_SANDBOX:-}}" ]; then
  {start}
  exit
fi
"""

# The user's branches, hooks and configuration stay out of reach; `.git` itself does not, for rebase and cherry-pick
# lock `packed-refs` there.
_COMMITTING = (
    *((":workspace_roots", "write"), *_open("$all", "$own", "$OCTOPOID_ATTEMPT_DIR")),
    *((f"$all/{name}", "read") for name in ("HEAD", "config", "hooks", "refs")),
)
_TRYING = ((":workspace_roots", "write"), *_open("$OCTOPOID_ATTEMPT_DIR/tmp"))
_DOCUMENT = _open("$OCTOPOID_ARTIFACTS")


def script(agent: Agent, role: Role, bypass: bool) -> str:
    """What `sh -c` runs for `role`, its permissions included; `"$@"` are the rest of the flags.

    It needs `OCTOPOID_ATTEMPT_DIR` and `OCTOPOID_ARTIFACTS`. `bypass`: without a sandbox, for who writes.
    """
    program = f"exec {shlex.join(agent.command or ('codex',))}"
    if agent.command and isinstance(agent.command, str):
        program = agent.command
    if role.writes and bypass:
        return f'{program} exec --json "$@"'
    if role.writes:
        inside = _INSIDE.format(start=f'{program} exec --json {BYPASS[0]} "$@"')
        return inside + _TEMPORARY + _WRITING.format(program=program, sandbox=_profile(_COMMITTING))
    inside = _INSIDE.format(start=_LOOKING.format(program=program, sandbox=BYPASS[0]).rstrip())
    if role.produces == "document":
        return inside + _LOOKING.format(program=program, sandbox=_profile(_DOCUMENT))
    if role.produces == "verdict" and "Bash" in role.tools:  # a tester builds and tries out; all of it is thrown away
        return inside + _TEMPORARY + _LOOKING.format(program=program, sandbox=_profile(_TRYING))
    return inside + _LOOKING.format(program=program, sandbox=_READ_ONLY)


def _profile(rules: Iterable[tuple[str, str]]) -> str:
    """Flags for a sandbox of our own, as they stand in a script: the shell puts in what `$…` means."""
    said = ",".join(f'\\"{path}\\"=\\"{how}\\"' for path, how in ((":root", "read"), *rules))
    return f"""-c 'default_permissions="octopoid"' -c "permissions.octopoid={{filesystem={{{said}}}}}\""""
