"""`doctor` about the disk: a queue with every damage that a kill, a person or an agent can leave behind.

The table makes each by real means. All are made in one queue, and found there: exactly these, each at its path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import OCTOPOID, Repo, drop, git, make_repo
from ruins import OLD, TASK, Found, age, changed, doctor, healthy, scheduler, snapshot

from octopoid import attempts
from octopoid.model import Opening, Outcome
from octopoid.states import State

SUBMIT = Outcome("attempt", "ok", False, "", "", 1.0, verb="submit", leaves="claimed", enters="provisional")


class Damage(NamedTuple):
    """`make` does it and returns the path that the finding is about. `mends`: `--fix` repairs it."""

    code: str
    severity: str
    make: Callable[[Repo], Path]
    mends: bool = False


def entry(repo: Repo, task: str, kind: str = "release", outcome: Outcome | None = None, pid: bool = False) -> Path:
    """One entry of `task`, as octopoid writes it."""
    begun = attempts.begin(repo.layout, task, Opening(kind, time.time() - OLD, base="main"), outcome=outcome)
    if pid:
        (begun.path / "pid").touch()
    return begun.path


def finished(repo: Repo, task: str, state: State = State.DONE) -> Path:
    """A finished task; the folder of its evidence."""
    drop(repo, task, TASK, state=state)
    return repo.layout.entries(task)


# --- evidence ---


def a_number_written_otherwise(repo: Repo) -> Path:
    drop(repo, "renumbered", TASK)
    path = entry(repo, "renumbered")
    return path.rename(path.with_name("1"))


def two_of_one_number(repo: Repo) -> Path:
    home = finished(repo, "twice-one")
    return Path(shutil.copytree(entry(repo, "twice-one"), home / "01"))


def a_gap(repo: Repo) -> Path:
    home = finished(repo, "gap")
    for _ in range(3):
        entry(repo, "gap")
    shutil.rmtree(home / "002")
    return home


def a_gap_that_a_person_made(repo: Repo) -> None:
    finished(repo, "aside")
    entry(repo, "aside")
    entry(repo, "aside")
    (repo.layout.entries("aside") / "001").rename(repo.layout.entries("aside") / ".broken-001")


def a_link_for_a_folder(repo: Repo) -> Path:
    path = repo.layout.entries("linked")
    path.symlink_to(repo.root.parent)
    return path


def evidence_of_nobody(repo: Repo) -> Path:
    return entry(repo, "nobody").parent


def torn(name: str, data: bytes) -> Callable[[Repo], Path]:
    def make(repo: Repo) -> Path:
        task = f"torn-{name[:-5]}-{len(data)}"
        finished(repo, task)
        path = entry(repo, task, "attempt", SUBMIT) / name
        entry(repo, task)
        path.write_bytes(data)
        return path

    return make


def strange(name: str, make_it: Callable[[Path], object]) -> Callable[[Repo], Path]:
    """Something else in the place of an entry's file; the finding is about the task's evidence."""

    def make(repo: Repo) -> Path:
        task = f"strange-{name.removesuffix('.json')}-{make_it.__name__}"
        drop(repo, task, TASK)
        path = entry(repo, task, "release") / name
        path.unlink(missing_ok=True)
        make_it(path)
        return repo.layout.entries(task)

    return make


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def left_open(repo: Repo) -> Path:
    """Cancelled while an attempt ran that was killed; nothing in `run/open` says so."""
    finished(repo, "left-open", State.CANCELLED)
    path = entry(repo, "left-open", "attempt", pid=True)
    (repo.layout.run / "open/left-open").unlink()
    return path


def a_gate_that_died(repo: Repo) -> Path:
    drop(repo, "dead-gate", TASK, state=State.PROVISIONAL)
    return entry(repo, "dead-gate", "gate", pid=True)


def without_its_marker(repo: Repo) -> Path:
    """Killed between the rename and `moved-…`."""
    drop(repo, "unmarked", TASK, state=State.BLOCKED)
    parked = Outcome("block", "", False, "parked", "x", 1.0, verb="block", leaves="incoming", enters="blocked")
    return entry(repo, "unmarked", "block", parked)


def done_without_its_marker(repo: Repo) -> Path:
    finished(repo, "unmarked-done")
    end = Outcome("finish", "ok", False, "", "", 1.0, verb="finish", leaves="provisional", enters="done")
    path = entry(repo, "unmarked-done", "finish", end)
    (repo.layout.run / "open/unmarked-done").unlink()
    return path


def two_markers(repo: Repo) -> Path:
    drop(repo, "two-markers", TASK, state=State.BLOCKED)
    parked = Outcome("block", "", False, "parked", "x", 1.0, verb="block", leaves="incoming", enters="blocked")
    path = entry(repo, "two-markers", "block", parked)
    (path / "moved-blocked").touch()
    (path / "moved-done").touch()
    return path / "moved-done"


def half_written_outcome(repo: Repo) -> Path:
    drop(repo, "half-outcome", TASK, state=State.BLOCKED)
    path = entry(repo, "half-outcome") / ".tmp-00aa00aa00aa"
    path.write_text("{", encoding="utf-8")
    age(path)
    return path


def scratch(repo: Repo) -> Path:
    finished(repo, "scratched")
    path = attempts.scratch(entry(repo, "scratched", "attempt", SUBMIT._replace(verb="", leaves="", enters="")))
    (path / "litter").write_text("x", encoding="utf-8")
    return path


# --- files ---


def hard_linked(repo: Repo) -> Path:
    path = drop(repo, "two-names", TASK)
    (repo.root.parent / "other-name.md").hardlink_to(path)
    return path


def pipe_in_done(repo: Repo) -> Path:
    path = repo.layout.task_file(State.DONE, "pipe")
    os.mkfifo(path)
    return path


def link_in_the_archive(repo: Repo) -> Path:
    path = repo.layout.task_file(State.ARCHIVED, "pointer")
    path.symlink_to("/etc/passwd")
    return path


def from_the_future(repo: Repo) -> Path:
    path = drop(repo, "future", TASK)
    age(path, -10 * OLD)
    return path


def in_capitals(repo: Repo) -> Path:
    drop(repo, "shout", TASK)
    return drop(repo, "SHOUT", TASK, state=State.BLOCKED)


def open_to_all(name: str) -> Callable[[Repo], Path]:
    def make(repo: Repo) -> Path:
        path = repo.layout.home / name
        path.chmod(path.stat().st_mode | 0o002)
        return path

    return make


# --- what octopoid writes down ---


def torn_journal(repo: Repo) -> Path:
    with repo.layout.events.open("a", encoding="utf-8") as file:
        file.write('{"at":"2026-01-01T00:00:00Z","event":"cla\n')
    return repo.layout.events


def journal_behind(repo: Repo) -> Path:
    drop(repo, "moved-by-hand", TASK, state=State.BLOCKED)
    line = {"at": "2026-01-01T00:00:00Z", "event": "enqueue", "task": "moved-by-hand", "to": "incoming"}
    with repo.layout.events.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return repo.layout.events


def broken_last_good(repo: Repo) -> Path:
    repo.layout.last_good.mkdir(parents=True)
    (repo.layout.last_good / "agents.yaml").write_text("{", encoding="utf-8")
    return repo.layout.last_good


def pauses(name: str) -> Callable[[Repo], Path]:
    def make(repo: Repo) -> Path:
        repo.layout.pause.mkdir(exist_ok=True)
        (repo.layout.pause / name).touch()
        return repo.layout.pause / name

    return make


def pipe_for_a_record(repo: Repo) -> Path:
    os.mkfifo(repo.layout.last_tick)
    return repo.layout.last_tick


DAMAGES = (
    Damage("entry-number", "warning", a_number_written_otherwise, mends=True),
    Damage("entry-number", "warning", two_of_one_number),
    Damage("entry-gap", "info", a_gap),
    Damage("entry-folder", "warning", a_link_for_a_folder),
    Damage("entry-vanished", "info", evidence_of_nobody),
    Damage("evidence", "warning", torn("attempt.json", b"{")),
    Damage("evidence", "warning", torn("outcome.json", b"\0" * 200)),
    Damage("evidence", "error", strange("attempt.json", pipe)),
    Damage("evidence", "error", strange("outcome.json", folder)),
    Damage("evidence", "error", strange("attempt.json", link)),
    Damage("evidence", "error", strange("waits", pipe)),
    Damage("entry-open", "warning", left_open, mends=True),
    Damage("entry-open", "info", a_gate_that_died),
    Damage("entry-unmoved", "info", without_its_marker, mends=True),
    Damage("entry-unmoved", "info", done_without_its_marker, mends=True),
    Damage("entry-moved", "warning", two_markers),
    Damage("leftover-file", "info", half_written_outcome, mends=True),
    Damage("leftover-scratch", "info", scratch, mends=True),
    Damage("hard-link", "warning", hard_linked, mends=True),
    Damage("not-regular", "warning", pipe_in_done),
    Damage("not-regular", "warning", link_in_the_archive),
    Damage("future-time", "info", from_the_future),
    Damage("same-name", "warning", in_capitals),
    Damage("open-to-all", "warning", open_to_all("queue/incoming"), mends=True),
    Damage("open-to-all", "warning", open_to_all("agents.yaml"), mends=True),
    Damage("journal-torn", "info", torn_journal),
    Damage("journal-behind", "info", journal_behind),
    Damage("last-good", "warning", broken_last_good, mends=True),
    Damage("pause-unknown", "info", pauses("task-nobody")),
    Damage("pause-unknown", "info", pauses("rubbish"), mends=True),
    Damage("not-regular", "error", pipe_for_a_record),
)
BESIDES = {"scheduler-off", "paused", "evidence", "invalid"}
"""Other words for the same damages, and what a queue with tasks and no scheduler says anyway."""


class Wreck(NamedTuple):
    """A queue with all of them: what doctor says before, about to, while and after mending, and what that changed."""

    repo: Repo
    paths: tuple[str, ...]
    first: Found
    preview: Found
    fixed: Found
    again: Found
    untouched: set[str]
    mended: set[str]
    repeated: set[str]


@pytest.fixture(scope="module")
def wreck(tmp_path_factory: pytest.TempPathFactory) -> Wreck:
    repo = healthy(make_repo(tmp_path_factory.mktemp("wreck")))
    a_gap_that_a_person_made(repo)
    paths = tuple(str(one.make(repo)) for one in DAMAGES)
    before = snapshot(repo)
    first, preview = doctor(repo), doctor(repo, "--fix", "--dry-run")
    looked = snapshot(repo)
    fixed = doctor(repo, "--fix")
    mended = snapshot(repo)
    again = doctor(repo, "--fix")
    after = snapshot(repo)
    differences = (changed(before, looked), changed(looked, mended), changed(mended, after))
    return Wreck(repo, paths, first, preview, fixed, again, *differences)


def told(seen: Found) -> set[tuple[str, str, str]]:
    return {(one["code"], one["severity"], one["path"]) for one in seen.findings}


@pytest.mark.parametrize(
    "at", range(len(DAMAGES)), ids=[f"{one.code}-{one.make.__qualname__.split('.')[0]}" for one in DAMAGES]
)
def test_each_damage_is_found_and_what_can_be_is_mended(wreck: Wreck, at: int) -> None:
    damage, path = DAMAGES[at], wreck.paths[at]
    assert (damage.code, damage.severity, path) in told(wreck.first)
    assert ((damage.code, path) in {(one["code"], one["path"]) for one in wreck.fixed.fixed}) == damage.mends
    assert ((damage.code, damage.severity, path) in told(wreck.fixed)) != damage.mends


def test_nothing_else_is_found(wreck: Wreck) -> None:
    wanted = {(one.code, one.severity, path) for one, path in zip(DAMAGES, wreck.paths, strict=True)}
    rest = told(wreck.first) - wanted
    assert {code for code, _, _ in rest} <= BESIDES, rest


def test_a_preview_says_what_would_be_done_and_does_nothing(wreck: Wreck) -> None:
    assert wreck.untouched == set()
    would = wreck.preview.answer.json()["repairs"]
    did = wreck.fixed.answer.json()["repairs"]
    assert wreck.preview.fixed == []
    assert not any(one["done"] for one in would)
    assert all(one["done"] for one in did), did
    assert [(one["code"], one["path"]) for one in would] == [(one["code"], one["path"]) for one in did]
    assert all(one["message"].startswith("would ") for one in would)
    assert "would make" in wreck.preview.answer.err
    assert "next: octopoid doctor --fix does it" in wreck.preview.answer.err


def test_mending_twice_is_mending_once(wreck: Wreck) -> None:
    assert wreck.again.fixed == []
    assert told(wreck.again) == told(wreck.fixed)
    assert wreck.repeated == set()


def test_mending_changes_nothing_else(wreck: Wreck) -> None:
    home = "project/.octopoid"
    entries = f"{home}/attempts"
    kept = {name for name in wreck.mended if f"{home}/run/last-good/" in name}
    assert f"{home}/run/last-good/agents.yaml" in kept
    assert {name for name in wreck.mended if not name.startswith(f"{entries}/renumbered/")} - kept == {
        f"{entries}/left-open/001/outcome.json",
        f"{entries}/unmarked/001/moved-blocked",
        f"{entries}/unmarked-done/001/moved-done",
        f"{entries}/half-outcome/001/.tmp-00aa00aa00aa",
        f"{home}/agents.yaml",
        f"{home}/run/scheduler.lock",
        f"{home}/run/moving.lock",
        f"{home}/run/pause/rubbish",
        f"{home}/events.jsonl",
    }
    renamed = {Path(name).parts[4] for name in wreck.mended if name.startswith(f"{entries}/renumbered/")}
    assert renamed == {"1", "001"}


def test_the_journal_has_a_line_for_each(wreck: Wreck) -> None:
    rows = wreck.repo.layout.events.read_text(encoding="utf-8").splitlines()
    events = [json.loads(row) for row in rows if row.endswith("}")]
    said = [one["detail"] for one in events if one["event"] == "repair"]
    assert sorted(said) == sorted(f"{one['code']}: {one['message']}" for one in wreck.fixed.fixed)


def test_nothing_that_is_suggested_destroys(wreck: Wreck) -> None:
    for one in wreck.first.findings:
        assert "mv -n" in one["fix"] or "mv " not in one["fix"], one
        for word in ("rm ", "--force", "reset --hard", "clean -f", "prune"):
            assert word not in one["fix"], one


def test_a_task_with_two_names_keeps_its_text_and_its_age(wreck: Wreck) -> None:
    path = wreck.repo.layout.task_file(State.INCOMING, "two-names")
    other = wreck.repo.root.parent / "other-name.md"
    assert path.read_text(encoding="utf-8") == other.read_text(encoding="utf-8") == TASK
    assert path.stat().st_ino != other.stat().st_ino
    assert path.stat().st_mtime_ns == other.stat().st_mtime_ns


def test_a_closed_entry_costs_its_task_nothing(wreck: Wreck) -> None:
    outcome = json.loads((wreck.repo.layout.entry("left-open", 1) / "outcome.json").read_bytes())
    assert (outcome["charged"], outcome["reason"]) == (False, "stopped")


# --- damages that stand alone ---


def test_a_journal_that_cannot_be_written(repo: Repo) -> None:
    healthy(repo)
    repo.layout.events.touch(0o400)
    repo.layout.events.chmod(0o400)
    asked = [OCTOPOID, "doctor", "--json"]
    if os.geteuid() == 0:  # root may write everything, unless it gives that away
        asked = ["setpriv", "--bounding-set=-dac_override", "--", *asked]
    said = subprocess.run(asked, cwd=repo.root, env=dict(repo.env), capture_output=True, check=False)
    (found,) = (one for one in json.loads(said.stdout)["findings"] if one["code"] == "journal-closed")
    assert (said.returncode, found["severity"]) == (1, "error")


def test_a_huge_journal_and_a_clock_that_was_set_back(repo: Repo) -> None:
    healthy(repo)
    with repo.layout.events.open("wb") as file:
        file.truncate(300 << 20)  # sparse: it takes no room
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"at":"2026-01-01T00:00:00Z","event":"x"}\n')
    age(repo.layout.events, -3 * 86400)
    seen = doctor(repo)
    assert seen.codes() == {"journal-large", "clock-back"}
    assert "3 days" in seen.one("clock-back")["message"]


def test_what_no_command_goes_near(repo: Repo) -> None:
    """Each of these is told; none is waited for, followed or touched."""
    healthy(repo)
    os.mkfifo(repo.layout.events)
    repo.layout.pause.touch()
    assert {one["path"] for one in doctor(repo).of("not-regular")} == {str(repo.layout.events), str(repo.layout.pause)}
    assert repo.octopoid("doctor", "--dry-run", ok=[2]).out == ""  # it goes with --fix
    repo.layout.format.write_text("99\n", encoding="utf-8")
    newer = doctor(repo, "--fix")
    assert ("newer" in newer.one("format")["message"], newer.fixed) == (True, [])
    path = repo.layout.folder(State.DONE)
    path.rename(repo.root.parent / "elsewhere")
    path.symlink_to(repo.root.parent / "elsewhere")
    assert str(path) in doctor(repo).one("folder-link")["message"]


def test_a_queue_of_somebody_else(repo: Repo) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    healthy(repo)
    os.chown(repo.layout.folder(State.DONE), 12345, -1)
    one = doctor(repo).one("other-owner")
    assert "user 12345" in one["message"]
    assert one["path"] == str(repo.layout.folder(State.DONE))


def test_a_thousand_findings_of_one_kind_are_told_as_one(repo: Repo) -> None:
    healthy(repo)
    for number in range(60):
        (repo.layout.folder(State.BLOCKED) / f"stray-{number}.txt").touch()
    text = repo.octopoid("doctor", ok=[1]).out
    assert text.count("\n  stray ") == 21
    assert "and 40 more" in text
    assert len(doctor(repo).of("stray")) == 60


def test_what_lives_is_not_damage(repo: Repo) -> None:
    """An open entry whose lock is held is work, not a ruin; while a scheduler looks, the rest is its business."""
    healthy(repo)
    drop(repo, "busy", TASK, state=State.PROVISIONAL)
    opening = Opening("gate", time.time(), gate="checks", key="k")
    begun = attempts.begin(repo.layout, "busy", opening, locked=True)
    assert begun.lock is not None
    try:
        assert doctor(repo).codes() == {"scheduler-off"}
    finally:
        os.close(begun.lock)
    with scheduler(repo):
        repo.layout.last_tick.touch()
        assert doctor(repo).codes() == set()
    assert "entry-open" in doctor(repo).codes()


def test_a_queue_that_lived_is_healthy(repo: Repo) -> None:
    """What octopoid leaves behind by itself is no finding."""
    healthy(repo, agents={"worker": {"role": "implementer", "adapter": "command", "command": WORK}})
    drop(repo, "task", TASK)
    repo.octopoid("run", "--until-empty")
    assert git(repo, "log", "-1", "--format=%s") != "First commit"
    assert doctor(repo).findings == []


WORK = "echo work > $OCTOPOID_TASK_ID.txt; git add . && git commit -qm Work"
