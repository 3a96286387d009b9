"""`octopoid undo`, and a journal that is complete: real commands, real ticks, kills between a rename and its line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from books import check
from harness import OCTOPOID, Repo, commit, drop, eventually, git, init, landed, script, state_of

from octopoid import attempts, bookkeeping, journal, lifecycle, store
from octopoid.fold import fold
from octopoid.model import Opening, Outcome
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]
ASK = [{"result": {"outcome": "question", "questions": ["Which colour?"]}}]


def every(*steps: list[Any]) -> dict[str, Any]:
    return {"tasks": {"default": {"implementer": list(steps)}}}


def undo(repo: Repo, *args: str, ok: tuple[int, ...] = (0,)) -> str:
    answer = repo.octopoid("undo", *args, ok=ok)
    return answer.out + answer.err


def look(repo: Repo) -> None:
    """A scheduler looks once and starts nothing."""
    repo.octopoid("pause")
    repo.octopoid("run", "--once")
    repo.octopoid("resume")


def words(repo: Repo, task: str) -> list[str]:
    return [one.event for one in journal.read(repo.layout) if one.task == task]


def judged(repo: Repo, task: str = "work") -> None:
    """A task whose candidate waits for a person's yes; after a no the agent does something else."""
    script(repo, every(WRITE, [{"write": {"path": "again.txt", "text": "again\n"}}]), gates=["checks", "human"])
    drop(repo, task, f"# {task}\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(repo, task) is State.PROVISIONAL


def asked(repo: Repo, task: str = "work") -> None:
    script(repo, every(ASK, WRITE))
    drop(repo, task, f"# {task}\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(repo, task) is State.BLOCKED


# --- undo ---


def test_a_new_task_goes_to_the_cancelled_ones_with_what_was_written_into_it_since(repo: Repo) -> None:
    init(repo)
    task = repo.octopoid("enqueue", "Add dark mode").out.strip()
    path = repo.layout.task_file(State.INCOMING, task)
    path.write_text(path.read_text() + "\nAn afterthought.\n")
    assert "would undo: enqueue" in undo(repo, "--dry-run")
    assert state_of(repo, task) is State.INCOMING, "nothing was done yet"
    said = undo(repo)
    cancelled = repo.layout.task_file(State.CANCELLED, task)
    assert "An afterthought." in cancelled.read_text()
    again = said.rpartition("to do it again: ")[2].strip()
    assert again.startswith("mv -n ")
    subprocess.run(["/bin/sh", "-c", again], cwd=repo.root, check=True)
    assert state_of(repo, task) is State.INCOMING
    look(repo)
    assert words(repo, task) == ["enqueue", "undo", "move"]


def test_it_goes_further_back_each_time_and_by_task(repo: Repo) -> None:
    init(repo)
    first, second = (repo.octopoid("enqueue", title).out.strip() for title in ("First", "Second"))
    repo.octopoid("cancel", first)
    undo(repo, second)
    assert state_of(repo, second) is State.CANCELLED, "the last move of that task"
    done = repo.octopoid("undo", "--json").json()
    assert done["undone"][0] | {"at": ""} == {
        "task": first,
        "move": "cancel",
        "at": "",
        "from": "archive/cancelled",
        "to": "incoming",
        "redo": f"octopoid cancel {first}",
    }
    undo(repo)
    assert state_of(repo, first) is State.CANCELLED, "its enqueue was the move before"
    assert "no move of yours" in undo(repo, ok=(3,))


def test_a_cancelled_task_comes_back_to_where_it_waited(repo: Repo) -> None:
    asked(repo)
    before = repo.layout.task_file(State.BLOCKED, "work").read_bytes()
    drop(repo, "behind", "---\ndepends_on: [work]\n---\n# Behind\n")
    repo.octopoid("cancel", "work")
    repo.octopoid("run", "--once")
    assert state_of(repo, "behind") is State.BLOCKED
    assert "octopoid retry behind" in undo(repo)
    assert repo.layout.task_file(State.BLOCKED, "work").read_bytes() == before
    assert repo.octopoid("show", "work", "--json").json()["task"]["reason"] == "question"
    repo.octopoid("answer", "work", "-m", "blue")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert landed(repo) == ("work",)


def test_a_yes_is_taken_back_before_it_lands_and_cannot_be_after(repo: Repo) -> None:
    judged(repo)
    repo.octopoid("approve", "work")
    assert "undone: approve of work" in undo(repo)
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(repo, "work") is State.PROVISIONAL, "it waits for a yes again"
    repo.octopoid("approve", "work")
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "work") is State.DONE
    said = undo(repo, ok=(5,))
    assert "it is in done by now" in said and landed(repo) == ("work",)


def test_a_yes_is_taken_back_from_a_landing_that_waits_for_the_checkout(repo: Repo) -> None:
    judged(repo)
    (repo.root / "work.txt").write_text("mine\n")
    repo.octopoid("approve", "work")
    repo.octopoid("run", "--once", ok=(0, 6))
    assert fold(attempts.read(repo.layout, "work")).open is not None, "a landing waits"
    undo(repo)
    (repo.root / "work.txt").unlink()
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(repo, "work") is State.PROVISIONAL and landed(repo) == ()


def test_a_no_is_taken_back_until_somebody_works_on_it(repo: Repo) -> None:
    judged(repo)
    before = repo.layout.task_file(State.PROVISIONAL, "work").read_bytes()
    repo.octopoid("reject", "work", "-m", "not like this")
    undo(repo)
    assert repo.layout.task_file(State.PROVISIONAL, "work").read_bytes() == before
    ledger = fold(attempts.read(repo.layout, "work"))
    assert not ledger.refused and not ledger.feedback, "as if nothing had been said"
    repo.octopoid("reject", "work", "-m", "not like this")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert "cannot be undone" in undo(repo, ok=(5,))


def test_an_answer_is_taken_back_and_asked_for_again(repo: Repo) -> None:
    asked(repo)
    before = repo.layout.task_file(State.BLOCKED, "work").read_bytes()
    repo.octopoid("answer", "work", "-m", "bleu")
    undo(repo)
    assert repo.layout.task_file(State.BLOCKED, "work").read_bytes() == before
    look(repo)
    assert state_of(repo, "work") is State.BLOCKED, "it asks; nobody answers by itself"
    assert "bleu" in repo.octopoid("thread", "work").out, "what was said is kept"
    repo.octopoid("answer", "work", "-m", "blue")
    repo.octopoid("run", "--until-empty")
    prompt = (repo.layout.entry("work", max(_attempts(repo, "work"))) / "prompt.md").read_text()
    assert "Answer: blue" in prompt and "bleu" not in prompt


def _attempts(repo: Repo, task: str) -> list[int]:
    return [one.number for one in attempts.read(repo.layout, task) if one.opening.kind == "attempt"]


def test_retry_and_reopen_are_taken_back(repo: Repo) -> None:
    script(repo, every([{"exit": 1}]), limits={"attempts": 1})
    drop(repo, "work", "# Work\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    before = repo.layout.task_file(State.BLOCKED, "work").read_bytes()
    repo.octopoid("retry", "work")
    undo(repo)
    assert repo.layout.task_file(State.BLOCKED, "work").read_bytes() == before
    script(repo, every(WRITE))
    repo.octopoid("retry", "work")
    repo.octopoid("run", "--until-empty")
    repo.octopoid("reopen", "work")
    undo(repo)
    assert state_of(repo, "work") is State.DONE
    look(repo)
    assert state_of(repo, "work") is State.DONE


def test_what_clean_archived_at_once_comes_back_at_once(repo: Repo) -> None:
    script(repo, every(WRITE))
    for name in ("one", "two"):
        drop(repo, name, f"# {name}\n")
    repo.octopoid("run", "--until-empty")
    repo.octopoid("clean")
    assert state_of(repo, "one") is state_of(repo, "two") is State.ARCHIVED
    undo(repo)
    assert state_of(repo, "one") is state_of(repo, "two") is State.DONE
    look(repo)
    assert state_of(repo, "one") is State.DONE


def test_it_refuses_what_is_being_worked_on_and_agents(repo: Repo) -> None:
    flag = repo.root.parent / "go"
    begun = repo.root.parent / "begun"  # after the steps before it: who carries the entry's mark then is ended
    script(repo, every([{"run": ["touch", str(begun)]}, {"wait_for": str(flag)}, *WRITE]))
    task = repo.octopoid("enqueue", "Work").out.strip()
    with repo.background("run"):
        eventually(begun.exists, 30, "the agent did not start")
        said = undo(repo, ok=(5,))
        assert "it is in claimed by now" in said and f"octopoid cancel {task}" in said
        inside = repo.octopoid("undo", ok=(5,), env={"OCTOPOID_ATTEMPT_DIR": str(repo.layout.entry(task, 1))})
        assert "a person's command" in inside.err
        repo.octopoid("cancel", task)
        undo(repo)
        flag.touch()
        eventually(lambda: state_of(repo, task) is State.DONE, 30)
    assert landed(repo) == (task,)


# --- a kill anywhere ---

KILL = """
import os, signal, sys
count = 0
def hook(event, args):
    global count
    if event in ("os.rename", "os.mkdir") or (event == "open" and args[1] is None and isinstance(args[2], int)
            and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        count += 1
        if count == int(os.environ["DIE_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.argv[0] = "octopoid"
from octopoid.cli.app import main
main()
"""


def dies(repo: Repo, at: int, *args: str) -> int:
    """Run the program and kill it before its `at`-th writing system call; its exit status."""
    env = {**repo.env, "DIE_AT": str(at)}
    argv = [sys.executable, "-c", KILL, *args]
    return subprocess.run(argv, cwd=repo.root, env=env, capture_output=True, check=False).returncode


DEEP = (pytest.mark.deep, pytest.mark.timeout(300))


@pytest.mark.parametrize(
    ("verb", "step"), [("answer", 5), pytest.param("answer", 1, marks=DEEP), pytest.param("cancel", 1, marks=DEEP)]
)
def test_killed_anywhere_it_is_done_or_not_and_the_journal_says_so_once(repo: Repo, verb: str, step: int) -> None:
    asked(repo)
    argv = ("answer", "work", "-m", "blue") if verb == "answer" else ("cancel", "work")
    after = State.INCOMING if verb == "answer" else State.CANCELLED
    kills = 0
    repo.octopoid("pause")
    for at in range(1, 80, step):
        if state_of(repo, "work") is not after:
            repo.octopoid(*argv)
        status = dies(repo, at, "undo")
        repo.octopoid("run", "--once")
        assert state_of(repo, "work") in (State.BLOCKED, after)
        assert check(repo) == [], f"killed at {at}"
        if status == 0:
            break
        kills += 1
    assert status == 0 and kills * step > 8
    assert state_of(repo, "work") is State.BLOCKED


# --- the journal ---


def test_what_was_done_by_hand_is_in_the_journal_once(repo: Repo) -> None:
    script(repo, every(WRITE))
    layout = repo.layout
    drop(repo, "dropped", "# Dropped\n")
    drop(repo, "parked", "# Parked\n")
    repo.octopoid("pause")
    repo.octopoid("run", "--once")
    layout.task_file(State.INCOMING, "parked").rename(layout.task_file(State.BLOCKED, "parked"))
    repo.octopoid("run", "--once")
    repo.octopoid("resume")
    repo.octopoid("run", "--until-empty", ok=(6,))
    layout.task_file(State.DONE, "dropped").rename(layout.task_file(State.ARCHIVED, "dropped"))
    layout.task_file(State.BLOCKED, "parked").rename(layout.task_file(State.CANCELLED, "parked"))
    for _ in range(2):
        repo.octopoid("run", "--once")
    assert words(repo, "dropped") == ["enqueue", "claim", "submit", "land", "archive"]
    assert words(repo, "parked") == ["enqueue", "move", "cancel"]
    layout.task_file(State.CANCELLED, "parked").unlink()
    for _ in range(2):
        repo.octopoid("run", "--once")
    assert words(repo, "parked") == ["enqueue", "move", "cancel", "gone"]
    assert check(repo) == []


def lose(repo: Repo, number: int) -> None:
    """Take line `number` (from the end) out of the journal, as a kill before it would have left it out."""
    lines = repo.layout.events.read_bytes().splitlines(keepends=True)
    del lines[number]
    repo.layout.events.write_bytes(b"".join(lines))


@pytest.mark.parametrize("number", [-1, -2])  # land, approve
def test_a_line_that_a_kill_left_out_is_added_once(repo: Repo, number: int) -> None:
    judged(repo)
    repo.octopoid("approve", "work")
    repo.octopoid("run", "--until-empty")
    lines = [(one.event, one.entry) for one in journal.read(repo.layout)]
    whole = repo.layout.events.read_bytes()
    for flag in (repo.layout.run / "open").glob("*"):
        flag.unlink()
    lose(repo, number)
    (repo.layout.run / "open" / "work").touch()
    os.utime(repo.layout.run / "open" / "work", (1, 1))
    for _ in range(2):
        repo.octopoid("run", "--once")
    assert sorted((one.event, one.entry) for one in journal.read(repo.layout)) == sorted(lines)
    repo.layout.events.write_bytes(whole)  # in its own order again, for the look at the end


def test_the_next_command_finds_what_the_last_one_could_not_write(repo: Repo) -> None:
    judged(repo)
    lose(repo, -1)  # submit
    repo.octopoid("cancel", "work")
    assert [one.event for one in journal.read(repo.layout)][-2:] == ["submit", "cancel"]
    assert [one.by for one in journal.read(repo.layout)][-2:] == ["healing", "person"]


def test_a_move_without_its_marker_is_told_before_the_next_one(repo: Repo) -> None:
    """Killed after the rename, before the marker: the landing stayed out of the journal when `clean` came first."""
    script(repo, every(WRITE))
    drop(repo, "work", "# Work\n")
    repo.octopoid("run", "--until-empty")
    number = attempts.read(repo.layout, "work")[-1].number
    lose(repo, -1)
    (repo.layout.entry("work", number) / "moved-done").unlink()
    repo.octopoid("clean")
    assert words(repo, "work") == ["enqueue", "claim", "submit", "land", "archive"]
    look(repo)
    assert words(repo, "work").count("land") == 1 and check(repo) == []


@pytest.mark.parametrize("into", [State.CANCELLED, State.BLOCKED])
def test_a_move_that_a_person_overtook_is_not_told_as_made(repo: Repo, into: State) -> None:
    """Killed between the outcome and its rename, and the file was moved by hand before anybody looked."""
    judged(repo)
    entry = attempts.read(repo.layout, "work")[0]
    outcome = Outcome(
        "release", "", False, "", "", time.time(), verb="release", leaves="provisional", enters="incoming"
    )
    opening = Opening("release", time.time(), by="person", to="incoming")
    begun = attempts.begin(repo.layout, "work", opening, outcome=outcome)
    repo.layout.task_file(State.PROVISIONAL, "work").rename(repo.layout.task_file(into, "work"))
    for _ in range(2):
        look(repo)
    assert state_of(repo, "work") is into and entry.is_moved
    assert [name for name in os.listdir(begun.path) if name.startswith("moved-")] == ["moved-elsewhere"]
    assert "release" not in words(repo, "work") and check(repo) == []
    assert "entry-moved" not in repo.octopoid("doctor", ok=None).out


@pytest.mark.parametrize("verb", ["clean", "cancel", "reopen"])
def test_a_verb_that_a_kill_cut_short_is_done_before_the_next_one(repo: Repo, verb: str) -> None:
    """`reopen`, killed before its rename, then `clean`: it was archived, and its entry said that it was reopened."""
    script(repo, every(WRITE))
    drop(repo, "work", "# Work\n")
    repo.octopoid("run", "--until-empty")
    outcome = Outcome(
        "reopen", "", False, "", "once more", time.time(), verb="reopen", leaves="done", enters="incoming"
    )
    opening = Opening("reopen", time.time(), by="person", text="once more", to="incoming")
    attempts.begin(repo.layout, "work", opening, outcome=outcome)
    repo.octopoid(verb, *(["work"] if verb != "clean" else []), ok=(5,) if verb == "reopen" else (0,))
    assert state_of(repo, "work") is (State.CANCELLED if verb == "cancel" else State.INCOMING)
    assert words(repo, "work")[4:] == ["reopen", *(["cancel"] if verb == "cancel" else [])]
    look(repo)
    assert check(repo) == []


def test_a_torn_last_line_is_ended_and_what_it_told_is_told_again(repo: Repo) -> None:
    judged(repo)
    data = repo.layout.events.read_bytes()
    repo.layout.events.write_bytes(data[:-20])
    repo.octopoid("run", "--once")
    assert repo.layout.events.read_bytes().startswith(data[:-20] + b"\n")
    assert words(repo, "work") == ["enqueue", "claim", "submit"]


STOP = """
import os, signal, sys
stopped = []
def hook(event, args):
    appends = event == "open" and isinstance(args[2], int) and args[2] & os.O_APPEND
    if appends and not stopped and str(args[0]).endswith("events.jsonl"):
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)
sys.addaudithook(hook)
sys.argv[0] = "octopoid"
from octopoid.cli.app import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc: who waits cannot be seen")
def test_lines_stand_in_the_order_of_the_moves(repo: Repo) -> None:
    """Who is stopped between its rename and its line holds up who moves the task on."""
    init(repo)
    argv = [sys.executable, "-c", STOP, "enqueue", "Slow"]
    first = subprocess.Popen(argv, cwd=repo.root, env=dict(repo.env), stdout=subprocess.DEVNULL)
    second = None
    try:
        path = eventually(lambda: next(repo.layout.folder(State.INCOMING).glob("slow-*.md"), None), 30)
        eventually(lambda: Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", 30)
        second = subprocess.Popen([str(OCTOPOID), "cancel", path.stem], cwd=repo.root, env=dict(repo.env))
        eventually(lambda: second.poll() is not None or _has_open(second.pid, "landing/main.lock"), 30)
        first.send_signal(signal.SIGCONT)
        assert [first.wait(30), second.wait(30)] == [0, 0]
    finally:
        for one in (first, second):
            if one is not None:
                one.kill()
                one.wait(10)
    assert words(repo, path.stem) == ["enqueue", "cancel"]
    assert check(repo) == []


def _has_open(pid: int, name: str) -> bool:
    found = []
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(one.readlink()))
    return any(one.endswith(name) for one in found)


def test_what_is_known_of_a_long_journal_is_kept_and_is_only_a_help(repo: Repo) -> None:
    init(repo)
    layout = repo.layout
    for n in range(4000):
        journal_line = {"at": "2026-01-01T00:00:00Z", "event": "enqueue", "task": f"t{n}", "to": "incoming"}
        with layout.events.open("a") as file:
            file.write(json.dumps(journal_line) + "\n")
    folders = journal.Folders(layout)
    assert folders.update() and not folders.update() and len(folders.of) == 4000
    folders.keep()
    assert (layout.run / "journal.json").exists()
    again = journal.Folders(layout)
    assert again.of == folders.of and not again.update()
    layout.events.write_text("")  # somebody began a new one
    again.update()
    assert again.of == {}
    (layout.run / "journal.json").write_text("{")
    assert journal.Folders(layout).of == {}
    layout.events.unlink()


def test_told_and_backwards_read_the_end_first(repo: Repo) -> None:
    init(repo)
    for n in range(2000):
        journal.append(
            repo.layout, journal.Event(float(n + 1), "enqueue", f"t{n}", "", "incoming", detail="x" * 100)
        ) if (n < 3 or n > 1990) else None
    with repo.layout.events.open("ab") as file:
        file.write(b"".join(b'{"at": "2026-01-01T00:00:00Z", "event": "note", "task": "other"}\n' for _ in range(6000)))
    assert journal.told(repo.layout, "t1") is None, "that far back nobody looks"
    newest = [one.task for one in journal.backwards(repo.layout, word=b"x" * 100)]
    assert newest == [f"t{n}" for n in (*range(1999, 1990, -1), 2, 1, 0)]
    assert [one.seq for one in journal.about(repo.layout, "t2")] == [3]
    repo.layout.events.unlink()


# --- the check itself ---


def test_planted_disagreements_are_seen(repo: Repo) -> None:
    judged(repo)
    repo.octopoid("approve", "work")
    repo.octopoid("run", "--until-empty")
    layout, whole = repo.layout, repo.layout.events.read_bytes()
    assert check(repo) == []
    lose(repo, -1)
    assert len(check(repo)) >= 2, "no line of the landing"
    layout.events.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    assert any("2 times" in one for one in check(repo))
    layout.events.write_bytes(whole)
    home, away = layout.task_file(State.DONE, "work"), layout.task_file(State.BLOCKED, "work")
    home.rename(away)
    assert any("it is in blocked" in one for one in check(repo)), "moved, and nobody looked"
    away.rename(home)
    commit(repo, {"again.txt": "x\n"}, "Again\n\nOctopoid-Task: work\n")
    assert any("2 commits of it have landed" in one for one in check(repo))
    git(repo, "reset", "-q", "--hard", "HEAD~2")
    assert any("is on no branch" in one for one in check(repo))
    git(repo, "reset", "-q", "--hard", "ORIG_HEAD~1")
    assert check(repo) == []


def test_an_undo_of_which_only_the_entry_was_written_is_finished(repo: Repo) -> None:
    asked(repo)
    repo.octopoid("answer", "work", "-m", "blue")
    layout, now = repo.layout, time.time()
    said = max(one.number for one in attempts.read(layout, "work") if one.opening.kind == "answer")
    outcome = Outcome(
        "undo", "", False, "question", "answer", now, verb="undo-blocked", leaves="incoming", enters="blocked"
    )
    attempts.begin(layout, "work", Opening("undo", now, by="person", undoes=said, to="blocked"), outcome=outcome)
    look(repo)
    assert state_of(repo, "work") is State.BLOCKED
    assert lifecycle.ledger_of(layout, "work").questions == ("Which colour?",)
    assert store.find(layout, "work") == (State.BLOCKED, layout.task_file(State.BLOCKED, "work"))
    assert bookkeeping.word("undo-blocked") == "undo"


def test_help_names_its_examples(tmp_path: Path, repo: Repo) -> None:
    said = repo.octopoid("undo", "--help", cwd=tmp_path).out
    assert "octopoid undo --dry-run" in said
