"""Frozen values as JSON and back, strictly: a key that is unknown or of the wrong type is an error, never a guess.

Only what differs from the default is written. Times (`at`, `ended`) are ISO 8601 on disk; a trailing underscore of a
field name is dropped (`class_` is `class`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from octopoid import clock
from octopoid.model import Opening, Outcome, Usage

_TIMES = ("at", "ended")


def dump(value: Opening | Outcome) -> bytes:
    """One line of JSON."""
    return (json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "replace")


def load_opening(data: bytes) -> Opening:
    """What `dump` wrote of an Opening. Raises ValueError."""
    return Opening(**_fields(_mapping(data), Opening.__annotations__))


def load_outcome(data: bytes) -> Outcome:
    """What `dump` wrote of an Outcome. Raises ValueError."""
    return Outcome(**_fields(_mapping(data), Outcome.__annotations__))


def _plain(value: Any) -> dict[str, Any]:
    defaults = value._field_defaults
    record: dict[str, Any] = {}
    for name, content in zip(value._fields, value, strict=True):
        if name in defaults and content == defaults[name]:
            continue
        if name in _TIMES:
            content = clock.iso(content)
        elif isinstance(content, Usage):
            content = _plain(content)
        record[name.rstrip("_")] = content
    return record


def _mapping(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _fields(record: Mapping[str, Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    known = {name.rstrip("_"): name for name in annotations}
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    fields: dict[str, Any] = {}
    for key, content in record.items():
        name = known[key]
        convert = _time if name in _TIMES else _READERS[_type_name(annotations[name])]
        try:
            fields[name] = convert(content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from None
    if missing := {"kind", *(set(_TIMES) & set(known))} - set(record):
        raise ValueError(f"no {sorted(missing)[0]!r}")
    return fields


def _type_name(annotation: Any) -> str:
    """NamedTuple wraps the annotation strings of a `from __future__ import annotations` module in ForwardRef."""
    return str(getattr(annotation, "__forward_arg__", annotation))


def _time(content: object) -> float:
    return clock.parse(_exactly(str)(content))


def _exactly(kind: type) -> Callable[[object], Any]:
    def check(content: object) -> Any:
        if type(content) is not kind:
            raise TypeError(f"expected {kind.__name__}, not {content!r}")
        return content

    return check


def _words(content: object) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
        raise TypeError(f"expected a list of strings, not {content!r}")
    return tuple(content)


def _number(content: object) -> float:
    if isinstance(content, bool) or not isinstance(content, int | float):
        raise TypeError(f"expected a number, not {content!r}")
    return float(content)


def _usage(content: object) -> Usage:
    if not isinstance(content, dict):
        raise TypeError(f"expected an object, not {content!r}")
    unknown = set(content) - set(Usage._fields)
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    readers = {name: _exactly(int) for name in ("input_tokens", "output_tokens", "cached_tokens")}
    readers |= {"usd": _number, "priced": _exactly(str)}
    return Usage(**{name: readers[name](one) for name, one in content.items()})


_READERS: dict[str, Callable[[object], Any]] = {
    "str": _exactly(str),
    "int": _exactly(int),
    "int | None": _exactly(int),
    "bool": _exactly(bool),
    "float": _number,
    "tuple[str, ...]": _words,
    "Usage": _usage,
}
