"""A new version of a program that changes an output we rely on: the test says which field. See `agentoutputs`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agentdrivers import DRIVERS, version
from agentoutputs import FIELDS, lacking, measure
from test_claude_real import claude  # noqa: F401 - the fixture that installs it
from test_codex_real import codex  # noqa: F401 - the same


@pytest.mark.parametrize("program", ["claude", "codex"])
@pytest.mark.usefixtures("claude", "codex")
def test_the_outputs_and_flags_that_we_rely_on_are_there(program: str, tmp_path: Path) -> None:
    cell = measure(DRIVERS[program], tmp_path)
    assert not cell.trouble, cell.trouble


def test_what_is_not_there_is_named() -> None:
    driver = DRIVERS["codex"]
    records = [
        {"type": "thread.started", "thread": "1"},
        {"type": "item.completed", "item": {"type": "file_change", "changes": [{"path": "a"}], "status": "completed"}},
    ]
    told = lacking(driver, b"\n".join(json.dumps(one).encode() for one in records))
    which = f"codex {version(driver)}"
    assert f"{which}: record `thread.started` has no field `thread_id` any more" in told
    assert f"{which}: record `item.completed/file_change` has no field `changes.*.kind` any more" in told
    assert not [one for one in told if "`changes.*.path`" in one]
    assert any(one.startswith(f"{which}: there is no record `turn.failed` any more; there are item.") for one in told)
    assert f"{which}: it does not say `401 Unauthorized` any more" in told


def test_every_program_that_prints_records_is_in_the_table() -> None:
    assert set(FIELDS) <= set(DRIVERS)
