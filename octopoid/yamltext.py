"""Strict YAML with positions: no duplicate keys, no aliases, no tags, no YAML 1.1 surprises.

PyYAML's C loader composes; we resolve plain scalars ourselves, because YAML 1.1 turns `no` into False, `1:30` into 90
and dates into naive datetimes, and a person's typo must never change type silently (LESSONS 5, 8).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from octopoid.errors import Invalid
from octopoid.model import Problem

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 20
_SHALLOW = 1000
"""Levels that the composer takes in any thread; a text of so many characters has no more."""
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+\Z")
_QUOTED = frozenset("'\"|>")  # a plain scalar's style is None in PyYAML and "" in its C parser
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


class Node(NamedTuple):
    """A value and where it stands, from 1. The keys of a mapping keep their own places in `keys`."""

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    line: int
    column: int
    keys: dict[str, tuple[int, int]] = {}


def load(text: str, path: Path, first_line: int = 1) -> Node:
    """The one document in `text`; an empty one is a node of None.

    `first_line` is the line of `path` that `text` starts on.
    Raises Invalid with one Problem: broken YAML, a duplicate key, a key that is no string, an alias, a tag.
    """
    offset = first_line - 1
    try:
        if len(text) > _SHALLOW:
            _refuse_depth(text, path, offset)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1 + offset, mark.column + 1) if mark else (first_line, 1)
        message = f"broken YAML: {error.problem or error.context}"
        raise _invalid(path, line, column, message, _advice(text, line - offset)) from None
    except yaml.YAMLError as error:  # the reader's errors carry no mark (control characters)
        raise _invalid(path, first_line, 1, f"broken YAML: {str(error).splitlines()[0]}", "") from None
    except RecursionError:  # without libyaml
        raise _invalid(path, first_line, 1, "nested too deeply", "") from None
    if root is None:
        return Node(None, first_line, 1)
    return _build(root, path, offset, 0, set())


def _refuse_depth(text: str, path: Path, offset: int) -> None:
    """PyYAML's C composer calls itself for each level: 100 KB of `[` end the whole process with SIGSEGV (6.0.3).

    Its events come one by one, at any depth. They cost as much as composing, so only a text is looked at that has the
    means to be deep.
    """
    means = sum(text.count(one) for one in ("[", "{", "- ", "-\n", "? ", "?\n"))
    if means + max(len(line) - len(line.lstrip(" ")) for line in text.split("\n")) <= _SHALLOW:
        return
    refuse_bombs(text, path, offset + 1)


def refuse_bombs(text: str, path: Path, first_line: int = 1) -> None:
    """For those who read a text with YAML's own loader: Invalid for aliases and deep nesting. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        line, column = (mark.line + first_line, mark.column + 1) if mark else (first_line, 1)
        if isinstance(event, yaml.AliasEvent):
            raise _invalid(path, line, column, "aliases (`*name`) are not supported", "write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH + 1:
                raise _invalid(path, line, column, "nested too deeply", "")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _invalid(path: Path, line: int, column: int, message: str, hint: str) -> Invalid:
    return Invalid(message, (Problem(path, line, column, message, hint),))


def _advice(text: str, line: int) -> str:
    """A hint for the commonest mistake: a colon inside an unquoted value."""
    lines = text.splitlines()
    for number in (line, line - 1):
        if 0 < number <= len(lines) and lines[number - 1].count(": ") > 1:
            return 'a value that contains ": " needs quotes'
    if any("\t" in one[: len(one) - len(one.lstrip())] for one in lines):
        return "indent with spaces, not tabs"
    return ""


def _build(node: yaml.Node, path: Path, offset: int, depth: int, seen: set[int]) -> Node:
    line, column = node.start_mark.line + 1 + offset, node.start_mark.column + 1
    if id(node) in seen:
        raise _invalid(path, line, column, "aliases (`*name`) are not supported", "write the value out")
    if depth > _MAX_DEPTH:
        raise _invalid(path, line, column, "nested too deeply", "")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return Node(_scalar(node, path, line, column), line, column)
    _refuse_tag(node, path, line, column)
    if isinstance(node, yaml.SequenceNode):
        return Node([_build(one, path, offset, depth + 1, seen) for one in node.value], line, column)
    values: dict[str, Node] = {}
    keys: dict[str, tuple[int, int]] = {}
    for key, value in node.value:
        at = (key.start_mark.line + 1 + offset, key.start_mark.column + 1)
        if not isinstance(key, yaml.ScalarNode):
            raise _invalid(path, *at, "a key must be a word", "")
        if key.value in values:
            first = keys[key.value][0]
            raise _invalid(path, *at, f"duplicate key `{key.value}` (first on line {first})", "keep one of them")
        keys[key.value] = at
        values[key.value] = _build(value, path, offset, depth + 1, seen)
    return Node(values, line, column, keys)


def _refuse_tag(node: yaml.Node, path: Path, line: int, column: int) -> None:
    if node.tag not in _TAGS:
        raise _invalid(path, line, column, f"the tag {node.tag} is not supported", "remove the `!…`")


def _scalar(node: yaml.ScalarNode, path: Path, line: int, column: int) -> str | int | float | bool | None:
    _refuse_tag(node, path, line, column)
    text = str(node.value)
    if node.style in _QUOTED:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.match(text) and len(text) < 19:
        return int(text)
    return float(text) if _FLOAT.match(text) else text
