"""From nodes to values: reads a mapping by its table of keys and collects every problem on the way.

A value that is wrong is reported and its default stands in, so that one look reports all that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from octopoid import configsandbox
from octopoid.configkeys import ELSEWHERE, KINDS, LAND, LAND_MODES, PRODUCES, RUNS, SECTIONS, Key
from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Problem
from octopoid.settings import ALL
from octopoid.yamltext import Node

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
ARTIFACT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\.md\Z")
MAX_BYTES = 1 << 20
MAX_COUNT = 1000
MAX_SECONDS = 30 * 86400
"""More than this is a slip of the finger, and beyond what the system's timers take."""

_DURATION = re.compile(r"(?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?\Z")
_TOKENS = re.compile(r"(\d{1,12})([kM]?)\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BAD_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$|/\.")  # git-check-ref-format(1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOOLS = re.compile(r",(?![^(]*\))")  # not the comma in `Bash(git log:*, git show:*)`
_GIT_REPLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")

_Place = tuple[int, int]


def read_text(path: Path, data: bytes) -> str:
    """`data`, the content of `path`, as text without its BOM. Raises Invalid where that is not possible."""
    if len(data) > MAX_BYTES:
        raise invalid(Problem(path, 0, 0, f"{len(data)} bytes are too many; at most {MAX_BYTES}"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise invalid(Problem(path, before.count(b"\n") + 1, column, "not UTF-8", "save the file as UTF-8")) from None


def invalid(*problems: Problem) -> Invalid:
    """The error that carries `problems`; its message is the first one."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Invalid(f"{problems[0]}{more}", problems, problems[0].hint)


def fields(node: Node) -> dict[str, Node]:
    """The fields of a mapping; none of anything else."""
    return node.value if isinstance(node.value, dict) else {}


def listed(words: Iterable[str]) -> str:
    """Words for a message."""
    return ", ".join(sorted(words)) or "none"


class Reader:
    """Reads one file's nodes; `problems` is what it found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def complain(self, place: Node | _Place, message: str, hint: str = "") -> None:
        line, column = (place.line, place.column) if isinstance(place, Node) else place
        self.problems.append(Problem(self.path, line, column, message, hint))

    def section(self, node: Node, keys: tuple[Key, ...], where: str, at: _Place | None = None) -> dict[str, Any]:
        """The values of a mapping by key name, defaults included. `where` names it in messages, "" = the file.

        `at` is where a missing key is reported: the name of the mapping.
        """
        values = {key.name: key.default for key in keys}
        fields = self.mapping(node, where)
        known = {key.name: key for key in keys}
        for name, value in fields.items():
            place = node.keys[name]
            if name not in known:
                self.unknown(name, place, tuple(known), where)
            elif value.value is None:
                self.complain(place, f"`{name}` has no value", "give it one, or remove the key")
            elif (reader := _READERS.get(known[name].kind)) is not None:
                said = reader(self, value, name)
                values[name] = values[name] if said is None else said
        for key in keys:
            if key.required and key.name not in fields and (node.value is None or isinstance(node.value, dict)):
                place = at or (node.line, node.column)
                self.complain(place, f"{where or 'the file'} has no `{key.name}`", f"add `{key.name}:`")
        return values

    def items(self, node: Node, name: str, hint: str) -> list[Node]:
        """The items of a list; none, and a problem, where there is no list."""
        if isinstance(node.value, list):
            return node.value
        self.complain(node, f"`{name}` must be a list", hint)
        return []

    def mapping(self, node: Node, where: str) -> dict[str, Node]:
        if isinstance(node.value, dict):
            return node.value
        if node.value is not None:
            message = f"{where or 'the file'} must be `key: value` lines, not {_kind(node.value)}"
            self.complain(node, message, _EXAMPLES.get(where, ""))
        return {}

    def unknown(self, name: str, place: _Place, known: tuple[str, ...], where: str) -> None:
        """Reports a key that is not known here: which one was meant, or where it belongs."""
        hint = ELSEWHERE.get(name, "")
        if not hint:
            hint = nearest(name, known)
            others = [other for other, keys in SECTIONS.items() if other and any(key.name == name for key in keys)]
            if others and not hint.startswith("did"):
                hint = f"`{name}` belongs into {' or '.join(f'`{other}`' for other in others)}"
        self.complain(place, f"unknown key `{_shown(name)}`{f' in {where}' if where else ''}", hint)

    # One method per kind of value. None = it was wrong, and has been reported.

    def text(self, node: Node, name: str) -> str | None:
        value = node.value
        if isinstance(value, str):
            if name == "model" and value.startswith("-"):  # some programs would take it for an option of theirs
                self.complain(node, "`model` begins with `-`", "name a model")
                return None
            if value.strip() and not _CONTROL.search(value):
                return value
            self.complain(node, f"`{name}` {'has control characters' if value.strip() else 'is empty'}")
        else:
            quoted = isinstance(value, (int, float))
            self.complain(node, f"`{name}` must be text, not {_kind(value)}", "put it in quotes" if quoted else "")
        return None

    def name(self, node: Node, name: str) -> str | None:
        said = self.text(node, name)
        if said is None or NAME.match(said):
            return said
        self.complain(node, f"`{_shown(said)}` is not a name", "use a-z, 0-9 and -, up to 64 characters")
        return None

    def file(self, node: Node, name: str) -> str | None:
        said = self.text(node, name)
        if said is None or ARTIFACT.match(said):
            return said
        hint = "a name like `plan.md`: a-z, 0-9, `.`, `_` and -, and `.md` at its end"
        self.complain(node, f"`{_shown(said)}` is not a document's name", hint)
        return None

    def files(self, node: Node, name: str) -> tuple[str, ...] | None:
        said = [self.file(one, name) for one in self.items(node, name, f"write {name}: [plan.md]")]
        return tuple(dict.fromkeys(one for one in said if one is not None))

    def roles(self, node: Node, name: str) -> tuple[str, ...] | None:
        """Names, each once; the word `all` stands alone."""
        if node.value == ALL:
            return (ALL,)
        said = [self.name(one, name) for one in self.items(node, name, f"write {name}: [one, two], or {name}: all")]
        return tuple(dict.fromkeys(one for one in said if one is not None))

    def counts(self, node: Node, name: str) -> dict[str, int] | None:
        said = {word: self.count(one, word) for word, one in self.mapping(node, name).items()}
        return {word: number for word, number in said.items() if number is not None}

    def cron(self, node: Node, name: str) -> str | None:
        """Five fields. Whether they make sense is asked where the library is loaded."""
        said = self.text(node, name)
        if said is None or len(said.split()) == 5:
            return said
        self.complain(node, f"`{name}` must be {KINDS['cron']}", 'like "0 3 * * *": each day at three')
        return None

    def prose(self, node: Node, name: str) -> str | None:
        if isinstance(node.value, str) and not _CONTROL.search(re.sub(r"[\n\t]", "", node.value)):
            return node.value
        return self.text(node, name)

    def path_inside(self, node: Node, name: str) -> str | None:
        """A file of the repository: relative, none of git's or octopoid's own."""
        said = self.text(node, name)
        if said is None:
            return None
        parts = said.split("/")
        if said.endswith("/") or any(part in ("", ".", "..") for part in parts):
            self.complain(node, f"`{name}` must be a path in the repository", "like docs/plan.md")
        elif parts[0].lower() in (".git", ".octopoid"):
            self.complain(node, f"`{name}` must not be in {parts[0]}", "like docs/plan.md")
        else:
            return said
        return None

    def landing(self, node: Node, name: str) -> str | None:
        """A mode in short, or as in agents.yaml."""
        if isinstance(node.value, str):
            return self.choice(node, name, LAND_MODES)
        said = self.section(node, LAND, name, (node.line, node.column))["mode"]
        return said if isinstance(said, str) else None

    def yesno(self, node: Node, name: str) -> bool | None:
        if isinstance(node.value, bool):
            return node.value
        self.complain(node, f"`{name}` must be true or false, not {_kind(node.value)}", "write true or false")
        return None

    def count(self, node: Node, name: str) -> int | None:
        return self._whole(node, name, 1)

    def number(self, node: Node, name: str) -> int | None:
        return self._whole(node, name, 0)

    def _whole(self, node: Node, name: str, least: int) -> int | None:
        value = node.value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT:
            return value
        hint = "`octopoid pause --agent NAME` rests a pool" if name == "instances" and value == 0 else ""
        self.complain(node, f"`{name}` must be a whole number from {least} to {MAX_COUNT}", hint)
        return None

    def money(self, node: Node, name: str) -> float | None:
        value = node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
            return float(value)
        self.complain(node, f"`{name}` must be an amount of US dollars from 0", "like 5 or 2.50; 0 = no limit")
        return None

    def dollars(self, node: Node, name: str) -> float | None:
        """An amount whose zero is nothing special."""
        value = node.value
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(value)
        self.complain(node, f"`{name}` must be an amount of US dollars from 0", "like 5 or 2.50")
        return None

    def amounts(self, node: Node, name: str) -> dict[str, float] | None:
        said = {word: self.money(one, word) for word, one in self.mapping(node, name).items()}
        return {word: amount for word, amount in said.items() if amount is not None}

    def tokens(self, node: Node, name: str) -> int | None:
        said = _TOKENS.match(str(node.value)) if isinstance(node.value, int | str) else None
        if said:
            return int(said[1]) * {"": 1, "k": 1000, "M": 1_000_000}[said[2]]
        self.complain(node, f"`{name}` must be a number of tokens", "like 200000, 200k or 2M; 0 = no limit")
        return None

    def duration(self, node: Node, name: str) -> float | None:
        value = node.value
        said = -1
        if isinstance(value, int) and not isinstance(value, bool):
            said = value
        elif isinstance(value, str) and (match := _DURATION.match(value)):
            hours, minutes, rest = (int(part or 0) for part in match.groups())
            said = hours * 3600 + minutes * 60 + rest
        if 0 <= said <= MAX_SECONDS:
            return float(said)
        problem = "is more than 30 days" if said > MAX_SECONDS else "must be a duration"
        self.complain(node, f"`{name}` {problem}", "like 45m, 90s, 1h30m, or seconds; 0 turns it off")
        return None

    def branch(self, node: Node, name: str) -> str | None:
        said = self.text(node, name)
        if said is None:
            return None
        if said.startswith("refs/"):
            self.complain(node, f"`{name}` must be a branch's name", "without `refs/heads/`")
            return None
        if _BAD_IN_BRANCH.search(said):
            self.complain(node, f"`{_shown(said)}` cannot be a branch's name")
            return None
        return said

    def words(self, node: Node, name: str) -> tuple[str, ...] | None:
        """A list of texts; an empty text is an argument like any other."""
        if not isinstance(node.value, list):
            self.complain(node, f"`{name}` must be a list, not {_kind(node.value)}", f"write {name}: [one, two]")
            return None
        good = [one.value for one in node.value if isinstance(one.value, str) and "\0" not in one.value]
        for one in node.value:
            if not isinstance(one.value, str):
                self.complain(one, f"`{name}` must be a list of texts, not {_kind(one.value)}", "put it in quotes")
            elif "\0" in one.value:
                self.complain(one, f"`{name}` has a NUL character")
        return tuple(good) if len(good) == len(node.value) else None

    def argv(self, node: Node, name: str) -> tuple[str, ...] | None:
        said = self.words(node, name)
        if said is None or (said and said[0].strip()):
            return said
        self.complain(node, f"`{name}` is empty", "its first word is the program")
        return None

    def command(self, node: Node, name: str) -> str | tuple[str, ...] | None:
        if isinstance(node.value, list):
            return self.argv(node, name)
        if isinstance(node.value, str) and node.value.strip() and "\0" not in node.value:
            return node.value
        self.complain(node, f"`{name}` must be a command", 'text, or a list like ["npm", "test"]')
        return None

    def tools(self, node: Node, name: str) -> tuple[str, ...] | None:
        if not isinstance(node.value, str):
            return self.words(node, name)
        return tuple(one.strip() for one in _TOOLS.split(node.value) if one.strip())

    def variables(self, node: Node, name: str) -> tuple[str, ...] | None:
        """Names of environment variables. What could be a secret is never repeated in a message (LESSONS 45)."""
        if not isinstance(node.value, list):
            self.complain(node, f"`{name}` must be a list of names", _NAMES_ONLY)
            return None
        for one in node.value:
            said = one.value if isinstance(one.value, str) else ""
            before, equals, _ = said.partition("=")
            if equals and _VARIABLE.match(before):
                self.complain(one, f"`{before}=…`: names only", _NAMES_ONLY)
            elif not _VARIABLE.match(said):
                self.complain(one, f"`{name}` has something that is not a variable's name", _NAMES_ONLY)
            elif said.startswith("OCTOPOID_"):
                self.complain(one, f"`{said}` is set by octopoid itself", "remove it")
            elif said in _GIT_REPLACES:
                self.complain(one, f"`{said}` would make git work outside the task's worktree", "remove it")
        names = [str(one.value) for one in node.value]
        return tuple(dict.fromkeys(names))

    def choice(self, node: Node, name: str, choices: tuple[str, ...]) -> str | None:
        if isinstance(node.value, str) and node.value in choices:
            return node.value
        hint = nearest(node.value, choices) if isinstance(node.value, str) else ""
        self.complain(node, f"`{name}` must be {', '.join(choices[:-1])} or {choices[-1]}", hint)
        return None

    def version(self, node: Node, name: str) -> int | None:
        if node.value == 1 and isinstance(node.value, int) and not isinstance(node.value, bool):
            return 1
        self.complain(node, f"`{name}` must be 1", "this octopoid reads version 1 of this file")
        return None


_EXAMPLES = {
    "agents": "one entry per agent: its name, then its keys, indented",
    "land": "write land: {mode: merge}",
    "limits": "write limits: {attempts: 3, rounds: 3}",
    "notify": 'write notify: {command: ["notify-send", "octopoid"]}',
    "prices": "one entry per model: its name, then {input: 1.25, output: 10}",
    "schedule": "one entry per schedule: its name, then its keys, indented",
    "usd_per_role": "write usd_per_role: {implementer: 20}",
    "wip": "write wip: {implementer: 2, provisional: 5}",
    "worktrees": 'write worktrees: {setup: "npm ci"}',
}

_NAMES_ONLY = "names only; values come from the scheduler's environment"

_READERS: dict[str, Callable[[Reader, Node, str], Any]] = {
    "amounts": Reader.amounts,
    "argv": Reader.argv,
    "branch": Reader.branch,
    "command": Reader.command,
    "count": Reader.count,
    "counts": Reader.counts,
    "cron": Reader.cron,
    "dollars": Reader.dollars,
    "duration": Reader.duration,
    "file": Reader.file,
    "files": Reader.files,
    "land": lambda reader, node, name: reader.choice(node, name, LAND_MODES),
    "landing": Reader.landing,
    "money": Reader.money,
    "name": Reader.name,
    "number": Reader.number,
    "path": Reader.path_inside,
    "produces": lambda reader, node, name: reader.choice(node, name, PRODUCES),
    "prose": Reader.prose,
    "roles": Reader.roles,
    "run": lambda reader, node, name: reader.choice(node, name, RUNS),
    "text": Reader.text,
    "tokens": Reader.tokens,
    "tools": Reader.tools,
    "variables": Reader.variables,
    "version": Reader.version,
    "words": Reader.words,
    "yesno": Reader.yesno,
    **configsandbox.READERS,
}
"""The kinds that stand for one value; those that are not here are read by `config`."""


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "keys of its own" if isinstance(value, dict) else "nothing")


def _shown(word: str) -> str:
    """A word of the user's, safe and short enough for a message."""
    return _CONTROL.sub("?", word if len(word) <= 60 else f"{word[:59]}…")
