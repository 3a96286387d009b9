"""`result.json`, the optional word of an agent: bytes ⇄ Result, strictly (DESIGN §5, LESSONS 36, 37).

A word that cannot be read is refused with what is wrong and the nearest right key. It is never guessed from prose.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Finding, Problem, Result, Usage

OUTCOMES = ("done", "failed", "question", "handoff", "accept", "reject")
MAX_BYTES = 1 << 20
"""A larger result file is refused: it is somebody's log, not a word."""
MAX_TEXT = 16 << 10
"""Characters of `summary` and `feedback` that are kept; what is longer loses its middle."""
_MAX_LINE = 2 << 10
_MAX_ITEMS = 50
_KEEP = {ord("\n"), ord("\t")}
_CONTROLS = {code: None for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code not in _KEEP}
_FILE = Path("result.json")

T = TypeVar("T")


def parse(data: bytes) -> Result:
    """What `data`, the content of a result file, says. Raises Invalid with one Problem."""
    if len(data) > MAX_BYTES:
        _refuse(f"{len(data)} bytes; a result has at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(f"not UTF-8 (byte {error.start + 1})")
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _refuse(f"not JSON: {error.msg}", line=error.lineno, column=error.colno)
    except RecursionError:
        _refuse("nested too deeply")
    return parse_mapping(value)


def parse_mapping(value: object) -> Result:
    """The Result that a decoded JSON value means; null is the same as leaving a key out. Raises Invalid."""
    fields = _object(value, "the result", (*_READERS, "subtasks"))
    _items(fields.pop("subtasks", None), "subtasks")  # accepted; this version does nothing with them
    result = Result(**{key: _READERS[key](said, key) for key, said in fields.items() if said is not None})
    if result.outcome == "question" and not result.questions:
        _refuse("outcome `question` without `questions`", 'write {"outcome": "question", "questions": ["…?"]}')
    if result.outcome == "handoff" and not result.handoff_to:
        _refuse("outcome `handoff` without `handoff_to`", "name the role that is to take over")
    return result


def clean(text: str) -> str:
    """`text` without control characters (they could rewrite a person's terminal), with `\\n` as the only line end."""
    whole = text.encode("utf-8", "replace").decode()  # JSON can hold half a surrogate pair, no file can
    return whole.replace("\r\n", "\n").translate(_CONTROLS)


def bounded(text: str, limit: int = MAX_TEXT) -> str:
    """`text`, cleaned and stripped; where it is longer than `limit` characters its middle is left out and says so."""
    text = clean(text).strip()
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _refuse(message: str, hint: str = "", line: int = 0, column: int = 0) -> NoReturn:
    raise Invalid(message, (Problem(_FILE, line, column, message, hint),), hint)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        _refuse(f"duplicate key `{next(key for key in keys if keys.count(key) > 1)}`", "keep one of them")
    return fields


def _no_constant(word: str) -> NoReturn:
    _refuse(f"{word} is not JSON")


def _object(value: object, what: str, known: Iterable[str]) -> dict[str, object]:
    if not isinstance(value, Mapping):
        _refuse(f"{what} must be an object, not {_kind(value)}")
    for key in value:
        if key not in known:
            _refuse(f"unknown key `{bounded(str(key), 80)}` in {what}", nearest(str(key), known))
    return dict(value)


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _text(value: object, what: str, limit: int = MAX_TEXT) -> str:
    if not isinstance(value, str):
        _refuse(f"`{what}` must be text, not {_kind(value)}")
    return bounded(value, limit)


def _word(value: object, what: str) -> str:
    return _text(value, what, 200)


def _outcome(value: object, what: str) -> str:
    if not isinstance(value, str) or value not in OUTCOMES:
        said = f"`{bounded(value, 80)}`" if isinstance(value, str) else _kind(value)
        _refuse(f"unknown {what} {said}", nearest(str(value), OUTCOMES))
    return value


def _items(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(f"`{what}` must be a list, not {_kind(value)}")
    if len(value) > _MAX_ITEMS:
        _refuse(f"`{what}` has {len(value)} items; at most {_MAX_ITEMS}")
    return value


def _questions(value: object, what: str) -> tuple[str, ...]:
    questions = tuple(_text(one, f"{what}[{i}]", _MAX_LINE) for i, one in enumerate(_items(value, what)))
    if not all(questions):
        _refuse(f"`{what}` has an empty one")
    return questions


def _count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse(f"`{what}` must be a whole number from 0")
    return value


def _money(value: object, what: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        _refuse(f"`{what}` must be a number from 0")
    return float(value)


def _usage(value: object, what: str) -> Usage:
    readers = {"input_tokens": _count, "output_tokens": _count, "usd": _money}
    return Usage(**_read(value, f"`{what}`", readers, what))


def _finding(value: object, what: str) -> Finding:
    readers: dict[str, Callable[[object, str], Any]] = {
        "file": lambda said, at: _text(said, at, _MAX_LINE),
        "line": _count,
        "severity": _word,
        "message": _text,
    }
    fields = {"file": "", "line": 0, "severity": "", "message": "", **_read(value, f"`{what}`", readers, what)}
    if not fields["message"]:
        _refuse(f"`{what}` has no `message`")
    return Finding(**fields)


def _findings(value: object, what: str) -> tuple[Finding, ...]:
    return tuple(_finding(one, f"{what}[{i}]") for i, one in enumerate(_items(value, what)))


def _read(value: object, name: str, readers: Mapping[str, Callable[[object, str], Any]], at: str) -> dict[str, Any]:
    fields = _object(value, name, tuple(readers))
    return {key: readers[key](said, f"{at}.{key}") for key, said in fields.items() if said is not None}


_READERS: dict[str, Callable[[object, str], Any]] = {
    "outcome": _outcome,
    "summary": _text,
    "feedback": _text,
    "questions": _questions,
    "handoff_to": _word,
    "findings": _findings,
    "usage": _usage,
}
