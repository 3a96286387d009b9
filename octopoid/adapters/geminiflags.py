"""What Gemini CLI may do in a role, and how one attempt is set up: settings, rules, flags (measured with 0.61.0).

A role that writes works as the user would with everything approved, in a folder that is trusted. Any other one looks:
its folder is not trusted, so nothing of the candidate counts (`.gemini` with settings, hooks, MCP servers, commands and
skills; `.env`), and rules above those of the user's own settings say what is left. What is denied here is the second
line. The first is that octopoid throws away and reports what such a role changed (workspace.restore).
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from octopoid.adapters import geminihome
from octopoid.settings import Agent, Role

LOOSE = ("--yolo", "-y", "--skip-trust")
"""Words in `args` that free who writes, and nobody else."""

_SHELL = "run_shell_command"
_TOOLS = {
    "Bash": (_SHELL, "list_background_processes", "read_background_output"),
    "Edit": ("replace",),
    "Write": ("write_file",),
    "NotebookEdit": (),
    "MultiEdit": (),
    "Read": ("read_file", "read_many_files", "list_directory"),
    "Glob": ("glob",),
    "Grep": ("grep_search",),
    "WebFetch": ("web_fetch",),
    "WebSearch": ("google_web_search",),
}
"""Roles name tools as Claude Code does; any other name is one of Gemini's own."""
_EDITING = ("replace", "write_file")
_LOOKING = ("Read", "Glob", "Grep")
_HARMLESS = ("update_topic", "write_todos")

# Above all that the user's own settings can say (0.95 at most), below what an administrator does.
_DENY, _ALLOW, _NEVER = 960, 970, 980

# One command, no character that means something to the shell. `--o…` is `--output=FILE`, which writes.
_GIT = r'\x00"command":"git (diff|log|show|status)[ A-Za-z0-9_./:@^~=,%+-]*"\x00'
_GIT_OUTPUT = "--o(?!neline)"

# The shell of its tools gets no git configuration but the repository's own (GIT_CONFIG_GLOBAL=/dev/null), so who the
# user is has to be said in another way. `"$@"` are the flags.
_SCRIPT = """\
{there}for one in name email; do
  said=$(git config "user.$one") || continue
  case $one in
    name) export GIT_AUTHOR_NAME="${{GIT_AUTHOR_NAME:-$said}}" GIT_COMMITTER_NAME="${{GIT_COMMITTER_NAME:-$said}}" ;;
    *) export GIT_AUTHOR_EMAIL="${{GIT_AUTHOR_EMAIL:-$said}}" GIT_COMMITTER_EMAIL="${{GIT_COMMITTER_EMAIL:-$said}}" ;;
  esac
done
own=$(mktemp -d "${{TMPDIR:-/tmp}}/gemini-XXXXXX") && {python} "$own" {settings} {rules} || exit {broken}
export GEMINI_CLI_HOME="$own"
{start}{program}{policy} "$@"
"""


def script(agent: Agent, role: Role, entry: Path) -> str:
    """What `sh -c` runs: the settings and the rules of this attempt are written to TMPDIR, then it starts."""
    text = isinstance(agent.command, str) and agent.command
    said = rules(role, entry)
    name = shlex.quote((agent.command or ("gemini",))[0])
    there = f"command -v {name} >/dev/null || {{ echo {name}: not found >&2; exit 127; }}\n"
    return _SCRIPT.format(
        there="" if text else there,
        python=shlex.join((sys.executable, "-I", "-S", geminihome.__file__)),
        settings=shlex.quote(json.dumps(settings(agent, role), separators=(",", ":"))),
        rules=shlex.quote(said),
        broken=geminihome.BROKEN,
        start="" if text else "exec ",
        program=text or shlex.join(agent.command or ("gemini",)),
        policy=f' --policy "$own/{geminihome.RULES}"' if said else "",
    )


def flags(role: Role, entry: Path) -> list[str]:
    """How it runs. Its own tools may reach the attempt's folder too: the result file and documents are there."""
    mode = ["--approval-mode", "yolo", "--skip-trust"] if role.writes else []
    return ["--output-format", "stream-json", *mode, "--include-directories", str(entry)]


def settings(agent: Agent, role: Role) -> dict[str, Any]:
    """What is laid over the user's own `settings.json`: a key with `?` counts where the user says nothing."""
    turns = agent.max_turns or role.max_turns
    auth = _auth(agent)
    ours: dict[str, Any] = {
        # Its own limit is 10: 214 s, silent on stdout. `@word` in a prompt would be looked for in all files, 28,000 of
        # them for 45 s; what is named by its path is found without that.
        "general": {
            "maxAttempts": max(1, min(10, agent.retries + 1)),
            "enableAutoUpdate": False,
            "enableAutoUpdateNotification": False,
        },
        "context": {"fileName?": ["GEMINI.md", "AGENTS.md"], "fileFiltering": {"enableRecursiveFileSearch": False}},
        "privacy": {"usageStatisticsEnabled": False},
        **({"model": {"maxSessionTurns": turns}} if turns else {}),
    }
    security = {"auth": {"selectedType": auth}} if auth else {}
    if role.writes:
        return {**ours, **({"security": security} if security else {})}
    # not trusted, and yet no error: that is what "no folder trust" and GEMINI_CLI_TRUST_WORKSPACE=false give together
    return {**ours, "security": {**security, "folderTrust": {"enabled": False}}, "advanced": {"ignoreLocalEnv": True}}


def _auth(agent: Agent) -> str:
    """How it logs in, where `env:` says so; "" = as the user has chosen."""
    if "GOOGLE_GENAI_USE_VERTEXAI" in agent.env:
        return "vertex-ai"
    return "gemini-api-key" if "GEMINI_API_KEY" in agent.env else ""


def rules(role: Role, entry: Path) -> str:
    """The rules (TOML) for `role`; "" = everything may be done."""
    if role.writes and not role.tools:
        return ""
    return "\n".join(_rule(**fields) for fields in _rules(role, entry))


def _rules(role: Role, entry: Path) -> Iterator[dict[str, Any]]:
    yield {"toolName": "*", "decision": "deny", "priority": _DENY, "denyMessage": "This role may not do that."}
    named = role.tools or _LOOKING
    tools = [one for name in named for one in _TOOLS.get(name, () if "(" in name else (name,))]
    shell = _SHELL in tools
    if not role.writes:
        tools = [one for one in tools if one not in _EDITING]
    allowed = [*dict.fromkeys((*tools, *_HARMLESS))]
    yield {"toolName": [one for one in allowed if one != _SHELL], "decision": "allow", "priority": _ALLOW}
    if shell:
        yield {"toolName": _SHELL, "decision": "allow", "priority": _ALLOW, "allowRedirection": True}
    else:
        yield from _commands(named)
    if not role.writes:
        yield from _writable(role, entry)


def _commands(named: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Git's looking commands, and those that a role names (`Bash(npm test:*)`)."""
    yield {"toolName": _SHELL, "argsPattern": _GIT, "decision": "allow", "priority": _ALLOW}
    yield {"toolName": _SHELL, "argsPattern": _GIT_OUTPUT, "decision": "deny", "priority": _NEVER}
    prefixes = [one[5:-1].removesuffix(":*").strip() for one in named if one.startswith("Bash(") and one.endswith(")")]
    if prefixes:
        yield {"toolName": _SHELL, "commandPrefix": prefixes, "decision": "allow", "priority": _ALLOW}


def _writable(role: Role, entry: Path) -> Iterator[dict[str, Any]]:
    """The result file; for a document also where it belongs."""
    places = [(["write_file"], _pattern(entry / "result.json"))]
    if role.produces == "document":
        places.append(([*_EDITING], f'{_pattern(entry / "artifacts")}/[^"]*'))
    for tools, path in places:
        pattern = rf'\x00"file_path":"{path}"\x00'
        yield {"toolName": tools, "argsPattern": pattern, "decision": "allow", "priority": _ALLOW}
    yield {"toolName": [*_EDITING], "argsPattern": r"/\.\./", "decision": "deny", "priority": _NEVER}


def _pattern(path: Path) -> str:
    """`path` as it stands in JSON, in a regular expression."""
    return re.escape(json.dumps(str(path), ensure_ascii=False)[1:-1])


def _rule(**fields: Any) -> str:
    """A rule in TOML, whose strings, numbers and lists of strings are written as in JSON."""
    return "\n".join(("[[rule]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items()), ""))
