"""What Claude Code may do in a role, and the word that it is to give: flags and JSON schemas (measured with 2.1.197).

A role that writes gets its tools. Any other one looks, in a worktree that nothing of it is kept of: a `document` role
may write below its attempt's `artifacts` and nowhere else, a `tester` may run what it likes. What is denied here is
the second line. The first is that octopoid throws away and reports what such a role changed (workspace.restore).

A role that may not write cannot leave a result file either, so it gives its word as structured output.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from octopoid import hearing
from octopoid.results import MAX_DISCOVERED, MAX_TITLE
from octopoid.settings import Role
from octopoid.taskhead import PRIORITIES

_Schema = dict[str, Any]

_WRITING = ("Bash", "Edit", "Write", "NotebookEdit", "Read", "Glob", "Grep", "WebFetch", "WebSearch")
_LOOKING = ("Read", "Glob", "Grep", *(f"Bash(git {verb}:*)" for verb in ("diff", "log", "show", "status")))
_EDITING = ("Edit", "Write", "NotebookEdit", "MultiEdit")
# It needs no permission, and makes a worktree and a branch in the user's own checkout and works there from then on.
_ELSEWHERE = ("EnterWorktree", "ExitWorktree")
# `git diff --output=FILE` writes, and the rules of _LOOKING would let it. A determined shell quotes around a pattern.
_GIT_OUTPUT = "Bash(git *--out*)"
# Where it works, nothing is edited. Claude holds redirections, `touch`, `sed -i` and the like of Bash to this too, but
# `tee` or a program of its own it does not see.
_HERE = "Edit(./**)"
# The user's `settings.json` counts, for their login may be there. The candidate's own `.claude/settings.json` and
# `.mcp.json` must not decide what its reviewer may do, nor run hooks there.
_OWN_SETTINGS = ("--setting-sources", "user", "--strict-mcp-config")

_PLAIN = re.compile(r"[^\w /.,@+=~-]")

_AFTER_A_TOOL = ("PostToolUse", "PostToolUseFailure")
_HOOK_TIMEOUT = 10
"""Seconds."""


def permissions(role: Role, entry: Path) -> list[str]:
    """Named tools and never `bypassPermissions`, which root may not use. `entry`: the attempt's folder."""
    return _writing(role) if role.writes else _looking(role, entry)


def word(produces: str) -> list[str]:
    """What makes the program ask for the result as structured output. Work in commits speaks for itself."""
    schema = _WORDS.get(produces)
    return ["--json-schema", json.dumps(schema, separators=(",", ":"))] if schema else []


def hooks(role: Role, entry: Path) -> list[str]:
    """What makes the program listen to `octopoid say` (`hearing`). Hooks of the user's own are started as well.

    Until something is said the shell that starts a hook (9 ms after each tool call) goes no further than `test`. Where
    the word is structured output, that ends the run whatever a hook says: a hook for the end would only waste what was
    said, which then waits for the next attempt.
    """
    program = shlex.join((sys.executable, "-I", "-S", str(Path(hearing.__file__)), str(entry)))
    command = f"test -d {shlex.quote(str(entry / hearing.FOLDER))} && exec {program} || exit 0"
    hook = [{"hooks": [{"type": "command", "command": command, "timeout": _HOOK_TIMEOUT}]}]
    events = _AFTER_A_TOOL if role.produces in _WORDS else (*_AFTER_A_TOOL, "Stop")
    return ["--settings", json.dumps({"hooks": dict.fromkeys(events, hook)}, separators=(",", ":"))]


def _writing(role: Role) -> list[str]:
    allowed = role.tools or _WRITING
    flags = ["--permission-mode", "acceptEdits", "--allowedTools", ",".join(allowed)]
    if role.tools:  # what is not allowed is not even offered
        flags += ["--tools", _offered(allowed)]
    denied = ",".join(one for one in _ELSEWHERE if one not in allowed)
    return [*flags, "--disallowedTools", denied] if denied else flags


def _looking(role: Role, entry: Path) -> list[str]:
    """The role's own tools but those that edit; for a document those too, where it is to be written."""
    allowed = [one for one in role.tools or _LOOKING if _tool(one) not in (*_EDITING, *_ELSEWHERE)]
    offered: list[str] = list(allowed)
    denied = [*_EDITING, *_ELSEWHERE]
    if role.produces == "document":
        place = f"(/{_pattern(entry / 'artifacts')}/**)"
        allowed += [f"Edit{place}", f"Read{place}"]  # a rule for Edit counts for Write; one for Write for nothing
        offered += ["Read", "Edit", "Write"]
        denied = [one for one in denied if one not in ("Edit", "Write")]
    if role.produces != "verdict":  # a tester builds, runs and tries out: its checkout is thrown away as a whole
        denied.append(_HERE)
    if "Bash" not in allowed:
        denied.append(_GIT_OUTPUT)
    return [
        *("--permission-mode", "default", "--allowedTools", ",".join(allowed)),
        *("--tools", _offered(offered), "--disallowedTools", ",".join(denied)),
        *_OWN_SETTINGS,
    ]


def _offered(rules: Iterable[str]) -> str:
    """The tools that rules are about, for `--tools`, which takes no MCP tools: those are always offered."""
    return ",".join(one for one in dict.fromkeys(map(_tool, rules)) if not one.startswith("mcp__"))


def _tool(rule: str) -> str:
    """`Bash` of `Bash(git log:*)`."""
    return rule.partition("(")[0].strip()


def _pattern(path: Path) -> str:
    """`path` in a rule: what means something there (a list splits at `) `) becomes `?`, any one character."""
    return _PLAIN.sub("?", str(path))


# --- structured output -------------------------------------------------------------------------------------------
# A part of `octopoid schema result`, narrowed to what this kind of role may say. The program holds the model to it
# and lets it try again. No `anyOf` at the top: the API refuses such a tool.


def _record(required: tuple[str, ...], **properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _said(schema: _Schema, description: str) -> _Schema:
    return {**schema, "description": description}


def _some(items: _Schema, most: int = 50) -> _Schema:
    return {"type": "array", "items": items, "maxItems": most}


_TEXT: _Schema = {"type": "string"}
_FULL: _Schema = {"type": "string", "pattern": r"\S"}
_LINE: _Schema = {"type": "string", "pattern": r"^[^\n]*\S[^\n]*$"}

_SUBTASK = _record(
    ("title",),
    title={**_LINE, "maxLength": MAX_TITLE},
    key=_said(_LINE, "how the others name it in depends_on"),
    body=_said(_TEXT, "all that the one who does it has to know"),
    role=_TEXT,
    flow=_TEXT,
    priority={"enum": list(PRIORITIES)},
    depends_on=_some(_LINE),
    labels=_some(_LINE),
    criteria=_said(_some(_LINE), "text, or text :: command"),
)
_CHOICE = _record(("problem", "chosen"), problem=_FULL, chosen=_FULL, variants=_some(_FULL), why=_TEXT)
_FINDING = _record(
    ("message",), file=_TEXT, line={"type": "integer", "minimum": 0}, severity=_TEXT, message={**_TEXT, "minLength": 1}
)
_SUMMARY = _said(_TEXT, "a few sentences: what was done or found out; for `failed`: what stands in the way")
_REST = {
    "questions": _said(_some(_FULL), "for `question`, at least one: complete, with its options"),
    "decisions": _said(_some(_CHOICE), "choices between real alternatives"),
    "discovered": _said(_some(_SUBTASK, MAX_DISCOVERED), "work beside the task that was noticed and left alone"),
}

_WORDS = {
    "verdict": _record(
        ("outcome", "summary"),
        outcome={"enum": ["accept", "reject"]},
        summary=_said(_TEXT, "one or two sentences: what was looked at and why this verdict"),
        feedback=_said(_TEXT, "for a reject: what must change, for the one who does the work"),
        findings=_some(_FINDING),
    ),
    "document": _record(
        ("outcome", "summary"),
        outcome={"enum": ["done", "failed", "question", "handoff"]},
        summary=_SUMMARY,
        handoff_to=_said(_TEXT, "for `handoff`: the role that is to take over"),
        **_REST,
    ),
    "tasks": _record(
        ("outcome", "summary"),
        outcome={"enum": ["done", "failed", "question"]},
        summary=_SUMMARY,
        subtasks=_said(_some(_SUBTASK), "for `done`: the tasks"),
        **_REST,
    ),
}
