"""What opencode may do in a role, and how one attempt is set up: permissions, settings, script (measured with 1.18.33).

A role that writes may do what the user's own configuration does not deny: what would be asked is approved. Any other
one looks, as an agent of ours with rules of its own, and nothing is left to be asked: a question that nobody answers
ends the run. What is denied here is the second line. The first is that octopoid throws away and reports what such a
role changed (workspace.restore).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octopoid.settings import Agent, Role

LOOSE = ("--auto",)
"""Words in `args` that free who writes, and nobody else."""
NAME = "octopoid"
"""The agent that a looking role is, as opencode calls such a set of permissions."""

_Rules = dict[str, Any]

_TOOLS = {
    "Bash": "bash",
    "Edit": "edit",  # of every tool that edits
    "Write": "edit",
    "MultiEdit": "edit",
    "NotebookEdit": "edit",
    "Read": "read",
    "Glob": "glob",
    "Grep": "grep",
    "WebFetch": "webfetch",
    "WebSearch": "websearch",
}
"""Roles name tools as Claude Code does; any other name is one of opencode's own."""
_LOOKING = ("Read", "Glob", "Grep")
_HARMLESS = ("list", "todowrite", "todoread")
_GIT = tuple(f"git {verb}{rest}" for verb in ("diff", "log", "show", "status") for rest in ("", " *"))
# The last rule that matches counts. `--output=FILE` writes, and the shell would put a word together from these.
_NEVER = ("*--ou*", "*'*", '*"*', "*\\*", "*{*", "*$*", "*`*", "*>*")

# Of a helper of its own nothing is told: neither what it did nor what it cost.
_NO_HELPERS = {"task": "deny"}

# A role that looks gets nothing of the candidate's own configuration: opencode runs the plugins in it, whatever
# OPENCODE_DISABLE_PROJECT_CONFIG and OPENCODE_PURE say. So it is put aside while the program runs; whoever kills this
# shell leaves it to octopoid, which puts the checkout right in any case.
_ASIDE = """\
aside="${{TMPDIR:-/tmp}}/aside-$$"
for one in .opencode opencode.json opencode.jsonc; do
  if [ -e "$one" ] || [ -L "$one" ]; then mkdir -p "$aside" && mv -- "$one" "$aside/" || exit {broken}; fi
done
if [ -d "$aside" ]; then
  trap : HUP INT TERM
  {program} "$@"
  status=$?
  for one in "$aside"/.opencode "$aside"/opencode.json "$aside"/opencode.jsonc; do
    if [ -e "$one" ] || [ -L "$one" ]; then mv -- "$one" ./ ; fi
  done
  trap - HUP INT TERM
  [ $status -le 128 ] || kill -$((status - 128)) $$
  exit $status
fi
"""
_SCRIPT = '{start}{program} "$@"\n'
BROKEN = 78
"""What the script answers when it cannot put the candidate's configuration aside (EX_CONFIG, sysexits(3))."""


def script(agent: Agent, role: Role) -> str:
    """What `sh -c` runs; `"$@"` are the arguments."""
    text = isinstance(agent.command, str) and agent.command
    program = text or shlex.join(agent.command or ("opencode",))
    start = _SCRIPT.format(start="" if text else "exec ", program=program)
    return start if role.writes else _ASIDE.format(program=program, broken=BROKEN) + start


def flags(role: Role, agent: Agent, entry: Path) -> list[str]:
    """How it runs. What it logs as an error is all that it tells of a model that does not answer.

    With a title of ours it asks no model for one.
    """
    limited = bool(agent.max_turns or role.max_turns)
    who = NAME if own(role) else "build" if limited else ""
    title = f"octopoid {entry.parent.name} {entry.name}"
    return [
        *("run", "--format", "json", "--thinking", "--print-logs", "--log-level", "ERROR", "--title", title),
        *(("--agent", who) if who else ()),
        *(("--auto",) if role.writes else ()),
    ]


def own(role: Role) -> bool:
    """Is it an agent of ours? One that writes and whose tools nobody narrows is the user's own."""
    return not role.writes or bool(role.tools)


def config(agent: Agent, role: Role, entry: Path, model: str) -> _Rules:
    """What is laid over the user's configuration and the project's. `model` is `provider/model`."""
    turns = agent.max_turns or role.max_turns
    steps = {"steps": turns} if turns else {}
    ours: _Rules = {"share": "disabled", "autoupdate": False, "snapshot": False, "permission": dict(_NO_HELPERS)}
    if own(role):
        ours["agent"] = {NAME: {"mode": "primary", "permission": permissions(role, entry), **steps}}
    elif steps:
        ours["agent"] = {"build": steps}
    provider, slash, _ = model.partition("/")
    if agent.base_url and slash:
        ours["provider"] = {provider: {"options": {"baseURL": agent.base_url}}}
    return ours


def permissions(role: Role, entry: Path) -> Mapping[str, Any]:
    """The rules for `role`: everything that is not named is denied."""
    named = role.tools or _LOOKING
    tools = [_TOOLS.get(name, name) for name in named if "(" not in name]
    rules: _Rules = {"*": "deny", **dict.fromkeys((*tools, *_HARMLESS), "allow"), **_NO_HELPERS}
    if "bash" not in tools:
        commands = [one[5:-1].removesuffix(":*") for one in named if one.startswith("Bash(") and one.endswith(")")]
        more = {f"{command}{rest}": "allow" for command in commands for rest in ("", " *")}
        rules["bash"] = {"*": "deny", **dict.fromkeys(_GIT, "allow"), **more, **dict.fromkeys(_NEVER, "deny")}
    rules["external_directory"] = {"*": "deny", str(entry): "allow", f"{entry}/*": "allow"}
    if role.writes:
        return {**rules, "external_directory": "allow"}
    return {**rules, "edit": {"*": "deny", **dict.fromkeys(_writable(role, entry), "allow")}}


def _writable(role: Role, entry: Path) -> list[str]:
    """The result file, for a document also where it belongs: as patterns for a path from the worktree to outside."""
    place = "/".join(("..", "*", *entry.parts[-3:]))
    return [f"{place}/result.json", *([f"{place}/artifacts/*"] if role.produces == "document" else ())]


def content(fields: Mapping[str, Any]) -> str:
    """A configuration as OPENCODE_CONFIG_CONTENT."""
    return json.dumps(fields, separators=(",", ":"))
