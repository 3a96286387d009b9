"""`result.json`, the optional word of an agent: bytes ⇄ Result, strictly (DESIGN §5, LESSONS 36, 37).

A word that cannot be read is refused with what is wrong and the nearest right key. It is never guessed from prose.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Choice, Finding, Problem, Result, Subtask, Usage
from octopoid.taskhead import PRIORITIES

OUTCOMES = ("done", "failed", "question", "handoff", "accept", "reject")
SAID = "said.json"
"""Where an entry keeps what its agent said, as it was understood: wherever the agent said it."""

MAX_BYTES = 1 << 20
"""A larger result file is refused: it is somebody's log, not a word."""
MAX_TEXT = 16 << 10
"""Characters of `summary` and `feedback` that are kept; what is longer loses its middle."""
MAX_TITLE = 250
"""Characters of the title of a subtask: as many as a task file takes."""
MAX_DISCOVERED = 5
MAX_MONEY = 10**6
"""US dollars of one attempt: what says more than that is no sum but nonsense."""
_MAX_LINE = 2 << 10
_MAX_WORD = 200
_MAX_ITEMS = 50
_KEEP = {ord("\n"), ord("\t")}
_CONTROLS = {code: None for code in (*range(32), *range(127, 160), 0x2028, 0x2029) if code not in _KEEP}
_CUT = "\n[… {} characters left out …]\n"
_FILE = Path("result.json")

_Reader = Callable[[object, str], Any]


def parse(data: bytes) -> Result:
    """What `data`, the content of a result file, says. Raises Invalid with one Problem."""
    if len(data) > MAX_BYTES:
        _refuse(f"{len(data)} bytes; a result has at most {MAX_BYTES}")
    return load(data)


def load(data: bytes) -> Result:
    """What `dump` wrote. Raises Invalid with one Problem."""
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
    except ValueError as error:  # a number of thousands of digits
        _refuse(f"not JSON: {bounded(str(error), _MAX_WORD)}")
    return parse_mapping(value)


def dump(result: Result) -> bytes:
    """`result` as a line of JSON that `parse` reads as the same value. What says nothing is left out."""
    return (json.dumps(_plain(result), ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")


def parse_mapping(value: object) -> Result:
    """The Result that a decoded JSON value means; null is the same as leaving a key out. Raises Invalid."""
    fields = _object(value, "the result", _READERS)
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
    # With the note it is no longer than `limit`: what was read once is read again as the same.
    half = max(1, limit - len(_CUT) - len(str(len(text)))) // 2
    return text[:half] + _CUT.format(len(text) - 2 * half) + text[len(text) - half :]


def _plain(value: Any) -> Any:
    """A value of `model` as JSON: records without the fields that say nothing, priorities as they are written."""
    defaults = getattr(value, "_field_defaults", None)
    if defaults is None:
        return [_plain(one) for one in value] if isinstance(value, tuple) else value
    said = {name: _plain(one) for name, one in value._asdict().items() if name not in defaults or one != defaults[name]}
    return {**said, "priority": PRIORITIES[said["priority"]]} if "priority" in said else said


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
    return _text(value, what, _MAX_WORD)


def _line(value: object, what: str, limit: int = _MAX_LINE) -> str:
    """One line of text that says something. Too long a one is refused: half a command is another command."""
    if not isinstance(value, str):
        _refuse(f"`{what}` must be text, not {_kind(value)}")
    text = clean(value).strip()
    if not text:
        _refuse(f"`{what}` is empty")
    if "\n" in text:
        _refuse(f"`{what}` must be one line")
    if len(text) > limit:
        _refuse(f"`{what}` has {len(text)} characters; at most {limit}")
    return text


def _name(value: object, what: str) -> str:
    return _line(value, what, _MAX_WORD)


def _lines(value: object, what: str) -> tuple[str, ...]:
    return tuple(_line(one, f"{what}[{i}]") for i, one in enumerate(_items(value, what)))


def _names(value: object, what: str) -> tuple[str, ...]:
    return tuple(_name(one, f"{what}[{i}]") for i, one in enumerate(_items(value, what)))


def _outcome(value: object, what: str) -> str:
    if not isinstance(value, str) or value not in OUTCOMES:
        said = f"`{bounded(value, 80)}`" if isinstance(value, str) else _kind(value)
        _refuse(f"unknown {what} {said}", nearest(str(value), OUTCOMES))
    return value


def _items(value: object, what: str, limit: int = _MAX_ITEMS) -> list[object]:
    if not isinstance(value, list):
        _refuse(f"`{what}` must be a list, not {_kind(value)}")
    if len(value) > limit:
        _refuse(f"`{what}` has {len(value)} items; at most {limit}")
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
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        _refuse(f"`{what}` must be a number from 0")
    if value > MAX_MONEY:
        _refuse(f"`{what}` is more than {MAX_MONEY}")
    return float(value)


def _usage(value: object, what: str) -> Usage:
    readers = {"input_tokens": _count, "output_tokens": _count, "usd": _money}
    return Usage(**_read(value, f"`{what}`", readers, what))


def _finding(value: object, what: str) -> Finding:
    readers: dict[str, _Reader] = {
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


def _priority(value: object, what: str) -> int:
    if not isinstance(value, str) or value not in PRIORITIES:
        _refuse(f"`{what}` must be one of {', '.join(PRIORITIES)}", "P0 is the most urgent, P2 the usual one")
    return PRIORITIES.index(value)


_SUBTASK: dict[str, _Reader] = {
    "key": _name,
    "title": lambda said, at: _line(said, at, MAX_TITLE),
    "body": _text,
    "role": _word,
    "flow": _word,
    "priority": _priority,
    "depends_on": _names,
    "labels": _names,
    "criteria": _lines,
}
_CHOICE: dict[str, _Reader] = {"problem": _text, "chosen": _text, "variants": _questions, "why": _text}


def _subtasks(value: object, what: str, limit: int = _MAX_ITEMS) -> tuple[Subtask, ...]:
    return tuple(_subtask(one, f"{what}[{i}]", i + 1) for i, one in enumerate(_items(value, what, limit)))


def _subtask(value: object, what: str, number: int) -> Subtask:
    fields = {"key": str(number), **_read(value, f"`{what}`", _SUBTASK, what)}
    return Subtask(**_needed(fields, what, "title"))


def _decisions(value: object, what: str) -> tuple[Choice, ...]:
    items = ((one, f"{what}[{i}]") for i, one in enumerate(_items(value, what)))
    return tuple(Choice(**_needed(_read(one, f"`{at}`", _CHOICE, at), at, "problem", "chosen")) for one, at in items)


def _needed(fields: dict[str, Any], what: str, *names: str) -> dict[str, Any]:
    missing = next((name for name in names if not fields.get(name)), "")
    if missing:
        _refuse(f"`{what}` has no `{missing}`")
    return fields


def _read(value: object, name: str, readers: Mapping[str, _Reader], at: str) -> dict[str, Any]:
    fields = _object(value, name, tuple(readers))
    return {key: readers[key](said, f"{at}.{key}") for key, said in fields.items() if said is not None}


_READERS: dict[str, _Reader] = {
    "outcome": _outcome,
    "summary": _text,
    "feedback": _text,
    "questions": _questions,
    "handoff_to": _word,
    "findings": _findings,
    "usage": _usage,
    "subtasks": _subtasks,
    "discovered": lambda said, at: _subtasks(said, at, MAX_DISCOVERED),
    "decisions": _decisions,
}
