"""What the model may do, by its role: which tools are offered, and what a call of one gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import git
from octopoid.adapters.anthropic import KEYS, Job
from octopoid.builtin import finish, shell
from octopoid.builtin.conversation import Block
from octopoid.builtin.editor import CHANGING, LOOKING, Editor, Refused
from octopoid.errors import GitError, Invalid, TimedOut
from octopoid.model import Result
from octopoid.results import bounded

BASH, EDITOR, GIT = "bash", "str_replace_based_edit_tool", "git"

GIT_VERBS = (
    "blame",
    "diff",
    "grep",
    "log",
    "ls-files",
    "ls-tree",
    "merge-base",
    "rev-list",
    "shortlog",
    "show",
    "status",
)
"""What who may not run programs can ask git."""
_GIT_TIME = 60.0
_PLAIN = ("--no-ext-diff", "--no-textconv")
"""No program of the user's configuration is run."""
_DIFFING = ("diff", "log", "show")
# They write files, run programs or read beside the repository. git takes any beginning of a long option for it.
_REFUSED = (
    *("--output", "--ext-diff", "--textconv", "--no-index", "--open-files-in-pager", "--contents", "--exec-path"),
    *("--file", "--exclude-from", "--ignore-revs-file"),
)
_EXACT = ("--exclude",)
_SHORT = {"grep": re.compile(r"-[A-Za-z]*[Of]"), "ls-files": re.compile(r"-[A-Za-z]*X"), "blame": re.compile(r"-\w*S")}

_LOOKERS = frozenset({"Read", "Glob", "Grep", "LS", "Edit", "MultiEdit", "Write"})
_WRITERS = frozenset({"Edit", "MultiEdit", "Write"})


class Said(NamedTuple):
    """What a call gave. `denied`: it may not do that. `word`: it was `finish`, and the run is over."""

    text: str
    error: bool = False
    denied: bool = False
    word: Result | None = None


class Toolbox:
    """The tools of a job in `worktree`. `offered` is what the API is told about them."""

    def __init__(self, job: Job, worktree: Path, env: Mapping[str, str]) -> None:
        self._job, self._worktree = job, worktree
        # What a command prints goes to the model and into the log; the key must not.
        self._env = {name: value for name, value in env.items() if name not in KEYS}
        artifacts = Path(job.entry) / "artifacts"
        named = frozenset(job.tools)
        writes = [worktree] if job.writes and (not named or named & _WRITERS) else []
        writes += [artifacts] if job.produces == "document" else []
        self._editor = Editor(worktree, (worktree, artifacts), tuple(writes))
        self._calls: dict[str, Callable[[Mapping[str, Any]], Said]] = {}
        if "Bash" in named or "Bash(*)" in named or (not named and job.writes):
            self._calls[BASH] = self._bash
        else:
            self._calls[GIT] = self._git
        if not named or named & _LOOKERS or writes:
            self._calls[EDITOR] = self._edit
        self._calls[finish.NAME] = self._finish
        self.offered = [self._described(name) for name in self._calls]

    def call(self, name: str, given: object) -> Said:
        """Do it. What goes wrong is told to the model, not to us."""
        if name not in self._calls:
            return Said(f"there is no tool `{name}`; there are: {', '.join(self._calls)}", error=True, denied=True)
        if not isinstance(given, Mapping):
            return Said("its input must be an object", error=True)
        return self._calls[name](given)

    def _bash(self, given: Mapping[str, Any]) -> Said:
        command, timeout = given.get("command"), given.get("timeout", shell.USUAL)
        if not isinstance(command, str) or not command.strip():
            return Said("`command` must be text", error=True)
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:  # NaN, too
            return Said("`timeout` must be a number of seconds", error=True)
        ran = shell.run(command, self._env, float(min(timeout, shell.MOST)))
        return Said(ran.text, error=ran.cut)

    def _git(self, given: Mapping[str, Any]) -> Said:
        words = given.get("arguments")
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(one, str) and _is_whole(one) for one in words)
        ):
            return Said('`arguments` must be a list of words, like ["log", "--stat"]', error=True)
        verb, *rest = words
        bad = [one for one in rest if _is_refused(verb, one)]
        if verb not in GIT_VERBS or bad:
            what = f"`{bad[0]}` is not allowed" if verb in GIT_VERBS else f"only these: {', '.join(GIT_VERBS)}"
            return Said(f"git {bounded(verb, 80)}: {what}", error=True, denied=True)
        plain = _PLAIN if verb in _DIFFING else ()
        try:
            answer = git.run(self._worktree, "--no-pager", verb, *plain, *rest, ok=tuple(range(256)), timeout=_GIT_TIME)
        except (GitError, TimedOut) as error:
            return Said(error.message, error=True)
        whole = answer.out.encode("utf-8", "replace").decode() + answer.err.encode("utf-8", "replace").decode()
        return Said(bounded(whole, shell.KEPT), error=answer.status > 1)

    def _edit(self, given: Mapping[str, Any]) -> Said:
        try:
            return Said(self._editor.run(given))
        except Refused as error:
            return Said(error.message, error=True, denied=error.denied)

    def _finish(self, given: Mapping[str, Any]) -> Said:
        try:
            word = finish.accept(given, self._job.produces, Path(self._job.entry) / "result.json")
        except Invalid as error:
            hint = f" ({error.hint})" if error.hint else ""
            return Said(f"{error.message}{hint}. Call `{finish.NAME}` again.", error=True)
        return Said("Noted.", word=word)

    def _described(self, name: str) -> Block:
        if name == finish.NAME:
            return {"name": name, "description": _FINISH, "input_schema": finish.schema(self._job.produces)}
        if name != EDITOR:
            return _DESCRIBED[name]
        commands = [*LOOKING, *(CHANGING if self._editor.writes else ())]
        properties = {"command": {"enum": commands}, **{key: _EDITING[key] for key in _EDITING}}
        if not self._editor.writes:
            properties = {key: properties[key] for key in ("command", "path", "view_range")}
        where = " and ".join(map(str, self._editor.writes)) or "nowhere"
        said = f"Looks at files and folders, and changes files. It changes files below: {where}."
        return {"name": name, "description": said, "input_schema": _object(properties, "command", "path")}


def _is_whole(word: str) -> bool:
    """No NUL, and no half of a character: JSON can hold both, an argument of a program neither."""
    return "\0" not in word and word == word.encode("utf-8", "replace").decode()


def _is_refused(verb: str, word: str) -> bool:
    if word.startswith("--") and len(word) > 2:
        name = word.partition("=")[0]
        return name not in _EXACT and any(one.startswith(name) for one in _REFUSED)
    return word.startswith("-O") or (verb in _SHORT and bool(_SHORT[verb].match(word)))


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _of(kind: str, said: str) -> dict[str, Any]:
    return {"type": kind, "description": said}


_EDITING: dict[str, Any] = {
    "path": _of("string", "the file or folder, absolute or from the current folder"),
    "view_range": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "view: [first, last] line; -1 = the end",
    },
    "file_text": _of("string", "create: the whole file; one that is there is replaced"),
    "old_str": _of("string", "str_replace: what stands there now, exactly, once in the file"),
    "new_str": _of("string", "str_replace: what is to stand there instead"),
    "insert_line": _of("integer", "insert: after this line; 0 = at the beginning"),
    "insert_text": _of("string", "insert: the text"),
}
_DESCRIBED: dict[str, Block] = {
    BASH: {
        "name": BASH,
        "description": (
            "Runs a command in a new shell that starts in the current folder; nothing but files is kept from one call"
            " to the next. Gives what it prints, both streams; of much output the middle is left out. stdin is empty."
            " To leave a program running, send its output to a file and end the command with `&`."
        ),
        "input_schema": _object(
            {
                "command": _of("string", "as for `bash -c`"),
                "timeout": _of("number", f"seconds, {shell.USUAL:g} if you do not say, {shell.MOST:g} at most"),
            },
            "command",
        ),
    },
    GIT: {
        "name": GIT,
        "description": f"Asks git about the repository, changes nothing. Begins with one of: {', '.join(GIT_VERBS)}.",
        "input_schema": _object(
            {"arguments": {"type": "array", "items": {"type": "string"}, "description": "the words after `git`"}},
            "arguments",
        ),
    },
}
_FINISH = (
    "Ends your work with your word about it, the result object that you were told about. Call it alone, when everything"
    " else is done; the result file need not be written then. It is refused with the reason where it cannot be read."
)
