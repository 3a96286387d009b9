"""The C halves of `json`, `signal` and `ctypes`, for programs that start often.

Their Python halves load `re`, `enum` and `functools`: 11, 6 and 5 ms on the machine of docs/benchmarks.md, at every
start of an agent or a check; the C halves cost 0.3 ms each. Where a Python has none of these names the full module
does the same.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    try:
        import _signal as signal  # the same functions and numbers, without the enums
    except ImportError:
        import signal

__all__ = ["dumps", "libc", "loads", "signal"]

try:
    from _json import encode_basestring_ascii as _quote
    from _json import make_scanner as _make_scanner
except ImportError:  # not CPython
    from json import dumps as _quote
    from json.scanner import make_scanner as _make_scanner


class _Plain:
    """What `json.JSONDecoder` would tell the scanner by default."""

    strict = True
    object_hook = object_pairs_hook = array_hook = parse_constant = None
    parse_float = float
    parse_int = int


_WORDS = {None: "null", True: "true", False: "false"}


def loads(text: str) -> Any:
    """The value of a JSON document. Raises ValueError."""
    text = text.strip(" \t\r\n")
    try:
        value, end = _make_scanner(_Plain)(text, 0)  # type: ignore[arg-type]  # it reads attributes, no more
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"something follows the JSON value at character {end}")
    return value


def dumps(value: Any) -> str:
    """`value` as JSON in ASCII. Knows dict, list, tuple, str, int, float, bool and None; others raise TypeError."""
    if value is None or value is True or value is False:
        return _WORDS[value]
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {dumps(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(dumps, value)) + "]"
    raise TypeError(f"{type(value).__name__} is not JSON")


def libc(name: str) -> Callable[..., None] | None:
    """The C library's function `name`, or None: it takes int and bytes and raises OSError where C says -1."""
    try:
        # inside, because it costs 0.8 ms and most programs that import this module never call it
        import _ctypes
    except ImportError:
        return None
    try:
        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]  # None: this program
    except OSError:
        return None

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # generic for type checkers alone
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    function = Function(address)

    def call(*arguments: int | bytes) -> None:
        if function(*arguments) == -1:
            number = _ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return call
