"""The C halves say what the full modules say."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopoid import lean

# surrogates: file names that are not UTF-8
_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
)


@given(_JSON)
def test_what_is_written_is_read_by_everybody(value: object) -> None:
    assert json.loads(lean.dumps(value)) == value
    assert lean.loads(lean.dumps(value)) == json.loads(json.dumps(value))
    assert lean.loads(json.dumps(value, indent=2, ensure_ascii=False)) == json.loads(json.dumps(value))


def test_tuples_are_lists_and_other_things_are_refused() -> None:
    assert lean.dumps((1, "é")) == '[1, "\\u00e9"]'
    with pytest.raises(TypeError):
        lean.dumps({"path": Path("x")})


@pytest.mark.parametrize("text", ["", "  ", "{", '{"a": }', "[1] 2", "nul", '"\n"', "\x00"])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        lean.loads(text)


def test_signals_are_the_same() -> None:
    assert lean.signal.SIGTERM == signal.SIGTERM
    assert lean.signal.SIGKILL == signal.SIGKILL


def test_c_functions_raise_what_c_says(tmp_path: Path) -> None:
    mkdir = lean.libc("mkdir")
    assert mkdir is not None
    mkdir(os.fsencode(tmp_path / "é x"), 0o755)
    assert (tmp_path / "é x").is_dir()
    with pytest.raises(FileExistsError):
        mkdir(os.fsencode(tmp_path / "é x"), 0o755)
    assert lean.libc("no_such_function_anywhere") is None
