"""The front matter of a task file: from text to typed values, every mistake with its place, nothing guessed.

Two ways lead to the same fields. Lines like `priority: P1` and `depends_on: [a, b]`, which is what nearly every file
consists of, are read right here; anything else goes to the strict YAML of `yamltext`, whose import alone costs more
than reading 200 such files. A test holds the two ways together: what the short one accepts, the strict one reads as
the same values in the same places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Problem

KEYS = ("priority", "role", "flow", "depends_on", "base", "labels", "not_before", "project", "parent")
PRIORITIES = ("P0", "P1", "P2", "P3")
MAX_ID = 100
MAX_BASE = 200
MAX_PROJECT = 64

CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]"
"""The pattern of what may stand in no front matter: YAML refuses some of it and takes some of it for a new line."""

_LINE = re.compile(
    r"(?P<key>[a-z_]+): +(?:(?P<plain>[A-Za-z0-9][A-Za-z0-9._/+:-]*)|\[(?P<items>[A-Za-z0-9._/, -]*)\]) *\Z"
)
_ITEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_TYPED = frozenset(("true", "false", "null"))
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ID = _LOWER | frozenset("._-")
_NAME = _LOWER | frozenset("-")

_MEANT_PRIORITY = {
    "P0": ("p0", "0", "critical", "urgent", "highest"),
    "P1": ("p1", "1", "high", "important"),
    "P2": ("p2", "2", "normal", "medium", "default"),
    "P3": ("p3", "3", "low", "lowest"),
}
_NOT_A_KEY = {
    "title": "the title is the first `# heading` below the front matter",
    "name": "the title is the first `# heading` below the front matter",
    "id": "the file name is the id: rename the file instead",
    "status": "the folder is the state: move the file instead",
    "state": "the folder is the state: move the file instead",
    "blocked_by": "did you mean `depends_on`?",
    "after": "did you mean `depends_on`?",
    "dependencies": "did you mean `depends_on`?",
    "agent": "did you mean `role`?",
    "branch": "did you mean `base`?",
    "tags": "did you mean `labels`?",
    "epic": "did you mean `project`?",
}
_MORE_KEYS = "; a key of your own begins with `x-`"
_NAMES = "names are lower-case letters, digits and `-`"
_FILE_NAME = "write the file name without `.md`"


class Field(NamedTuple):
    """A value and where it stands, from 1; of a value in the front matter itself also where its key stands."""

    value: str | int | float | bool | tuple[Field, ...] | dict[str, Field] | None
    line: int
    column: int
    key: tuple[int, int] = (0, 0)


class Head(NamedTuple):
    """What the front matter says; the fields of `model.Task` that come from there."""

    priority: int = 2
    role: str | None = None
    flow: str = "default"
    depends_on: tuple[str, ...] = ()
    base: str | None = None
    labels: tuple[str, ...] = ()
    not_before: float = 0.0
    project: str | None = None
    parent: str | None = None


class Report:
    """Collects what is wrong with one file, so that a person sees all of it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def add(self, line: int, column: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.path, line, column, message, hint))

    def at(self, field: Field, message: str, hint: str = "") -> None:
        self.add(field.line, field.column, message, hint)

    def invalid(self) -> Invalid:
        """The error to raise, its problems in the order of the file."""
        problems = tuple(sorted(self.problems, key=lambda one: (one.line, one.column)))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Invalid(f"{problems[0]}{more}", problems, problems[0].hint)


def check_id(stem: str) -> str:
    """What is wrong with `stem` as the id of a task, or ""."""
    if not stem:
        return "an id must not be empty"
    if len(stem) > MAX_ID:
        return f"an id has at most {MAX_ID} characters"
    if stem[0] not in _LOWER:
        return "an id begins with a lower-case letter or a digit"
    if not _ID.issuperset(stem):
        return "an id consists of lower-case letters, digits, `.`, `_` and `-`"
    # It becomes part of refs/octopoid/<id>; git-check-ref-format(1) allows none of these.
    if ".." in stem or stem.endswith((".", ".lock")):
        return "an id has no `..` and does not end with `.` or `.lock`"
    return ""


def check_branch(name: str) -> str:
    """What is wrong with `name` as the name of a branch, or "" (git-check-ref-format(1), and safe as an argument)."""
    if name.startswith("-"):
        return "begins with `-`"
    if name in ("@", "HEAD") or name.startswith("refs/"):
        return "is not the short name of a branch"
    if len(name) > MAX_BASE:
        return f"is longer than {MAX_BASE} characters"
    bad = next((one for one in name if one in " ~^:?*[\\" or not one.isprintable()), "")
    if bad:
        return f"contains {bad!r}"
    if "@{" in name or ".." in name or name.endswith("."):
        return "contains `@{` or `..`, or ends with `.`"
    if any(not part or part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        return "has an empty part, or one that begins with `.` or ends with `.lock`"
    return ""


def is_plain(text: str) -> bool:
    """Whether `text` can stand unquoted, also in a `[…]` list, and is text, not a number or a truth value."""
    return bool(_ITEM.fullmatch(text)) and not _is_typed(text)


def read(text: str, report: Report, first_line: int = 2) -> dict[str, Field]:
    """The fields of the front matter `text`, which begins on `first_line` of its file. Raises Invalid."""
    fields = read_plain(text, first_line)
    return read_strict(text, report, first_line) if fields is None else fields


def read_plain(text: str, first_line: int) -> dict[str, Field] | None:
    """The fields of `text` if it is nothing but plain lines with known keys, each once; else None."""
    fields: dict[str, Field] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), first_line):
        match = _LINE.match(line)
        if match is None or match["key"] not in KEYS or match["key"] in fields:
            return None
        key, plain, items = match.groups()
        if plain is None:
            listed = _plain_items(items, number, match.start("items") + 1)
            if listed is None:
                return None
            fields[key] = Field(listed, number, match.start("items"), (number, 1))
        elif plain.endswith(":") or _is_typed(plain):
            return None
        else:
            fields[key] = Field(plain, number, match.start("plain") + 1, (number, 1))
    return fields


def read_strict(text: str, report: Report, first_line: int) -> dict[str, Field]:
    """The fields of `text` as the strict YAML reader finds them. Raises Invalid."""
    bad = re.search(CONTROLS, text)
    if bad:
        line, column = text.count("\n", 0, bad.start()), bad.start() - text.rfind("\n", 0, bad.start())
        message = f"a control character in the front matter: {bad[0]!a}"
        report.add(first_line + line, column, message, "remove that character")
        raise report.invalid()
    # Here and not above: yaml alone costs `status` 16 ms at every start, and few files need it (PERF.md).
    from octopoid import yamltext

    def field(node: yamltext.Node, key: tuple[int, int] = (0, 0)) -> Field:
        value = node.value
        if isinstance(value, dict):
            return Field({name: field(one, node.keys[name]) for name, one in value.items()}, *node[1:3], key)
        if isinstance(value, list):
            return Field(tuple(field(one) for one in value), *node[1:3], key)
        return Field(value, node.line, node.column, key)

    try:
        root = field(yamltext.load(text, report.path, first_line))
    except Invalid as error:
        report.problems.extend(error.problems)
        raise report.invalid() from None
    if root.value is None:
        return {}
    if isinstance(root.value, dict):
        return root.value
    glued = isinstance(root.value, str) and ":" in root.value
    report.at(
        root,
        "the front matter must be `key: value` lines",
        "write a space after the colon"
        if glued
        else "if the `---` on line 1 is meant as a rule, put the `# title` above it",
    )
    raise report.invalid()


def head(fields: Mapping[str, Field], own_id: str, report: Report) -> Head:
    """The typed values of `fields` of the task `own_id`; what is wrong with them is added to `report`."""
    for key, field in fields.items():
        if key not in KEYS and not key.startswith("x-"):
            report.add(*field.key, f"unknown key `{_short(key)}`", _hint_for_key(key))
    get = fields.get
    return Head(
        _priority(get("priority"), report),
        _name("role", get("role"), report),
        _name("flow", get("flow"), report) or "default",
        _dependencies(get("depends_on"), own_id, report),
        _base(get("base"), report),
        _labels(get("labels"), report),
        _not_before(get("not_before"), report),
        _name("project", get("project"), report, MAX_PROJECT),
        _parent(get("parent"), own_id, report),
    )


def _is_typed(text: str) -> bool:
    """Whether YAML may take `text` for something else than text: a number, a date, a truth value."""
    return text.lower() in _TYPED or not text.lower().islower()


def _plain_items(text: str, line: int, column: int) -> tuple[Field, ...] | None:
    if not text.strip():
        return ()
    listed = []
    for part in text.split(","):
        word = part.strip(" ")
        if not is_plain(word):
            return None
        listed.append(Field(word, line, column + part.index(word)))
        column += len(part) + 1
    return tuple(listed)


def _hint_for_key(key: str) -> str:
    word = key.lower().replace("-", "_")
    if word in KEYS:
        return f"did you mean `{word}`?"
    if word in _NOT_A_KEY:
        return _NOT_A_KEY[word]
    return nearest(key, KEYS) + _MORE_KEYS


def _short(text: object) -> str:
    """A value as a message may show it: one line, no control characters, not the whole of a long one."""
    shown = "".join(one if one.isprintable() else "�" for one in str(text))
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _text(key: str, field: Field, report: Report) -> str | None:
    if isinstance(field.value, str) and field.value:
        return field.value
    if field.value is None or field.value == "":
        report.at(field, f"`{key}` has no value", "give it one or remove the line")
    elif isinstance(field.value, tuple | dict):
        report.at(field, f"`{key}` must be one word", f"write `{key}: word`")
    else:
        report.at(field, f"`{key}` must be text, not {_short(field.value)}", "put it in quotes")
    return None


def _priority(field: Field | None, report: Report) -> int:
    if field is None:
        return 2
    if isinstance(field.value, str) and field.value in PRIORITIES:
        return PRIORITIES.index(field.value)
    if field.value is None:
        report.at(field, "`priority` has no value", "give it one or remove the line")
        return 2
    shown = "this" if isinstance(field.value, tuple | dict) else f"`{_short(field.value)}`"
    meant = next((word for word, said in _MEANT_PRIORITY.items() if shown.lower().strip("`") in said), "")
    hint = f"write `priority: {meant}`" if meant else "write P0 (most urgent), P1, P2 (the default) or P3"
    report.at(field, f"{shown} is not a priority", hint)
    return 2


def _name(key: str, field: Field | None, report: Report, limit: int = MAX_ID) -> str | None:
    text = _text(key, field, report) if field else None
    if field is None or text is None:
        return None
    if text[0] in _LOWER and _NAME.issuperset(text) and len(text) <= limit:
        return text
    hint = f"at most {limit} lower-case letters, digits and `-`" if len(text) > limit else _NAMES
    report.at(field, f"`{_short(text)}` is not the name of a {key}", hint)
    return None


def _parent(field: Field | None, own_id: str, report: Report) -> str | None:
    text = _text("parent", field, report) if field else None
    if field is None or text is None:
        return None
    wrong = check_id(text)
    if wrong:
        report.at(field, f"`{_short(text)}` is not the id of a task: {wrong}", _FILE_NAME)
    elif text == own_id:
        report.at(field, "a task cannot be part of itself", f"remove `{text}`")
    return text


def _base(field: Field | None, report: Report) -> str | None:
    text = _text("base", field, report) if field else None
    if field is None or text is None:
        return None
    wrong = check_branch(text)
    if wrong:
        hint = f"write `base: {text[11:]}`" if text.startswith("refs/heads/") else "name a branch, such as `main`"
        report.at(field, f"`{_short(text)}` is no name of a branch: it {wrong}", hint)
        return None
    return text


def _items(key: str, field: Field, report: Report) -> Sequence[Field]:
    """The fields of a list; one word alone is a list of one, several in one string are refused."""
    if isinstance(field.value, tuple):
        return field.value
    text = _text(key, field, report)
    if text is None:
        return ()
    parts = text.replace(",", " ").split() if key == "depends_on" else text.split(",")
    if len(parts) == 1:
        return (field,)
    listed = ", ".join(part.strip() for part in parts if part.strip())
    report.at(field, f"`{key}` must be a list", f"write `{key}: [{_short(listed)}]`")
    return ()


def _dependencies(field: Field | None, own_id: str, report: Report) -> tuple[str, ...]:
    found: list[str] = []
    for one in _items("depends_on", field, report) if field else ():
        text = _text("depends_on", one, report)
        if text is None:
            continue
        wrong = check_id(text)
        if wrong:
            report.at(one, f"`{_short(text)}` is not the id of a task: {wrong}", _FILE_NAME)
        elif text == own_id:
            report.at(one, "a task cannot depend on itself", f"remove `{text}`")
        elif text in found:
            report.at(one, f"`{text}` is listed twice", "remove one of them")
        found.append(text)
    return tuple(found)


def _labels(field: Field | None, report: Report) -> tuple[str, ...]:
    found: list[str] = []
    for one in _items("labels", field, report) if field else ():
        text = _text("labels", one, report)
        if text is None:
            continue
        if re.search(CONTROLS, text) or "\n" in text or "\t" in text:
            report.at(one, f"the label `{_short(text)}` contains a control character", "remove that character")
        elif not text.strip():
            report.at(one, "an empty label", "remove it")
        elif text not in found:
            found.append(text)
    return tuple(found)


def _not_before(field: Field | None, report: Report) -> float:
    if field is None:
        return 0.0
    example = "2026-12-01T09:00:00+01:00"
    try:
        moment = datetime.fromisoformat(str(field.value)) if isinstance(field.value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        report.at(field, f"`not_before` is not a time: {_short(field.value)}", f"write it like {example}")
        return 0.0
    if moment.tzinfo is None:
        whole = moment.isoformat() if len(str(field.value)) > 10 else f"{moment.date()}T09:00:00"
        report.at(field, "`not_before` has no time zone", f"write {whole}+01:00, or {whole}Z for UTC")
        return 0.0
    return moment.timestamp()
