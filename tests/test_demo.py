"""`octopoid demo`, as somebody sees it who has just installed it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import Answer, Repo, end_marked, eventually, git, landed, make_repo

from octopoid import demo
from octopoid.layout import Layout
from octopoid.lifecycle import ledger_of
from octopoid.states import State

PATIENCE = 110.0
"""Seconds. It takes less than ten; this machine may be busy with other tests."""


class Shown(NamedTuple):
    """What a run of the demo left: its words, its repository, and the repository in which it was called."""

    answer: Answer
    scratch: Repo
    caller: Repo
    temporary: Path


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    place = tmp_path_factory.mktemp("demo")
    caller, temporary = make_repo(place), place / "tmp"
    temporary.mkdir()
    answer = caller.octopoid("demo", env={"TMPDIR": str(temporary)}, ok=None, timeout=PATIENCE)
    assert answer.status == 0, answer.out + answer.err
    (scratch,) = temporary.glob("octopoid-demo-*")
    yield Shown(answer, Repo(scratch, caller.env), caller, temporary)
    end_marked(place)


def test_every_valid_task_becomes_a_commit(shown: Shown) -> None:
    wanted = set(demo.STORY) - {demo.INVALID}
    assert sorted(landed(shown.scratch)) == sorted(wanted), shown.answer.err
    assert {path.stem for path in shown.scratch.layout.folder(State.DONE).iterdir()} == wanted
    assert f"{len(wanted)} tasks landed" in shown.answer.err
    order = landed(shown.scratch)
    assert order.index("add-slugify") < order.index("add-command-line"), "a task lands after what it depends on"


def test_what_landed_works(shown: Shown) -> None:
    """The tests of the scratch repository, as pytest and as plain Python run them; and the command that was built."""
    for module in ("pytest", "unittest"):
        done = subprocess.run([sys.executable, "-m", module], cwd=shown.scratch.root, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    argv = [sys.executable, "-m", "textkit", "It", "works!"]
    assert subprocess.check_output(argv, cwd=shown.scratch.root) == b"it-works\n"


def test_the_checks_and_the_reviewer_each_send_one_back(shown: Shown) -> None:
    ledger = ledger_of(shown.scratch.layout, demo.SENT_BACK)
    assert ledger.tries["implementer"] == 2
    assert [one.source for one in ledger.feedback] == ["checks"]
    assert "test_more_than_one_blank" in ledger.feedback[0].text
    prompts = sorted(shown.scratch.layout.entries(demo.SENT_BACK).glob("*/prompt.md"))
    assert any("test_more_than_one_blank" in one.read_text(encoding="utf-8") for one in prompts[1:])
    assert "FAILED tests/test_counting.py" in shown.answer.err
    reviewed = ledger_of(shown.scratch.layout, "add-initials")
    assert reviewed.tries["implementer"] == 2
    assert [one.source for one in reviewed.feedback] == ["gatekeeper"]


def test_the_invalid_file_is_shown_and_left_alone(shown: Shown) -> None:
    path = shown.scratch.layout.task_file(State.INCOMING, demo.INVALID)
    assert b"prioritee: P1" in path.read_bytes()
    assert "unknown key `prioritee`" in shown.answer.err
    assert "did you mean `priority`?" in shown.answer.err
    assert "line 2, column 1" in shown.answer.err


def test_the_board_is_that_of_status_and_the_history_that_of_git(shown: Shown) -> None:
    board, _, history = shown.answer.out.partition("$ git log --graph --oneline\n")
    assert board.removeprefix("\n$ octopoid status\n").strip() == shown.scratch.octopoid("status").out.strip()
    assert history.strip() == git(shown.scratch, "log", "--graph", "--oneline", "--decorate").strip()


def test_it_writes_nowhere_else(shown: Shown) -> None:
    assert list(Path(shown.caller.env["HOME"]).iterdir()) == []
    assert list(shown.temporary.iterdir()) == [shown.scratch.root]
    assert git(shown.caller, "status", "--porcelain", "--ignored") == ""
    assert git(shown.scratch, "status", "--porcelain") == "", "nor anything uncommitted into its own checkout"


def test_piped_it_has_no_escape_codes(shown: Shown) -> None:
    assert "\x1b" not in shown.answer.out + shown.answer.err
    assert "\r" not in shown.answer.err


def test_it_says_where_to_look_and_that_works(shown: Shown) -> None:
    commands = [line.split("  ")[1] for line in shown.answer.err.partition("Where to look:\n")[2].splitlines()[:-1]]
    assert commands[0] == f"cd {shown.scratch.root}"
    for command in commands[1:]:
        if not command.startswith("octopoid edit"):
            shown.scratch.octopoid(*command.split()[1:])


def test_what_is_mended_goes_on(shown: Shown) -> None:
    """The last thing that it proposes. (It changes the repository, but nothing that the other tests look at.)"""
    place = shown.temporary.parent / "mended"
    layout = demo.make(demo.find_place(str(place)))
    scratch = Repo(layout.root, shown.caller.env)
    for task, data in demo.tasks():
        if task == demo.INVALID:
            scratch.octopoid("enqueue", "-f", "-", input=data.decode().replace("prioritee", "priority"))
    scratch.octopoid("run", "--until-empty", timeout=PATIENCE)
    assert len(landed(scratch)) == 1


def test_a_folder_that_is_in_use_is_left_alone(repo: Repo, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine", encoding="utf-8")
    answer = repo.octopoid("demo", "--dir", full, ok=(5,))
    assert "is not empty" in answer.err and "--dir" in answer.err
    assert [one.name for one in full.iterdir()] == ["mine.txt"]


def test_it_is_never_made_inside_a_repository(repo: Repo) -> None:
    answer = repo.octopoid("demo", "--dir", "inside", ok=(5,))
    assert "is inside the repository" in answer.err
    assert git(repo, "status", "--porcelain", "--ignored") == ""
    assert not (repo.root / "inside").exists()


def test_without_a_place_it_says_so(repo: Repo, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    answer = repo.octopoid("demo", "--dir", file / "below", ok=(1,))
    assert "there is no place for the scratch repository" in answer.err and "--dir" in answer.err
    assert "Traceback" not in answer.err


def test_without_git_it_says_so(repo: Repo, tmp_path: Path) -> None:
    answer = repo.octopoid("demo", "--dir", tmp_path / "new", env={"PATH": str(tmp_path)}, ok=(1,))
    assert "cannot start git" in answer.err and "Traceback" not in answer.err


def test_a_users_git_configuration_does_not_decide_how_it_goes(repo: Repo, tmp_path: Path) -> None:
    """Keys that are not here, hooks for all repositories, a template, another first branch, no name at all."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-checkout", "reference-transaction"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        (hooks / name).chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        "[commit]\n\tgpgSign = true\n[user]\n\tsigningKey = 0\n\tuseConfigOnly = true\n"
        "[init]\n\tdefaultBranch = trunk\n"
        f"\ttemplateDir = {hooks}\n[core]\n\thooksPath = {hooks}\n\tautocrlf = true\n",
        encoding="utf-8",
    )
    argv = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from octopoid import demo\n"
        "print(demo.make(demo.find_place(sys.argv[1])).root)",
        str(tmp_path / "new"),
    ]
    env = {**repo.env, "GIT_CONFIG_GLOBAL": str(config)}
    subprocess.run(argv, env=env, cwd=tmp_path, check=True, capture_output=True)
    scratch = Repo(tmp_path / "new", env)
    assert git(scratch, "log", "--format=%an %d") == "Octopoid Demo  (HEAD -> main)"
    assert git(scratch, "ls-files", "--eol", "README.md").startswith("i/lf    w/lf")


def test_the_story_has_every_kind_of_task(tmp_path: Path) -> None:
    files = dict(demo.tasks())
    assert set(files) == set(demo.STORY) and len(files) >= 7
    text = {task: data.decode() for task, data in files.items()}
    assert "depends_on: [add-slugify]" in text["add-command-line"]
    assert " :: " in text["add-slugify"]
    assert not text[demo.LATE].startswith("---")


def test_without_pytest_the_suite_still_runs(tmp_path: Path) -> None:
    layout: Layout = demo.make(demo.find_place(str(tmp_path / "new")))
    argv = [sys.executable, "-m", "unittest", "discover", "-q"]
    done = subprocess.run(argv, cwd=layout.root, capture_output=True, text=True, check=True)
    assert "Ran 6 tests" in done.stderr


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_progress_is_drawn_and_lines_fit(no_color: str, tmp_path: Path) -> None:
    code = """from octopoid.cli import demo
with demo.display() as shown:
    shown.line("x" * 100)
    shown.footer("1 of 6")
"""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color", "NO_COLOR": no_color}
    child = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while block := os.read(ours, 4096):
            text += block
    except OSError:  # how Linux says that the other side was closed
        pass
    assert child.wait(30) == 0, text
    os.close(ours)
    assert (b"\x1b" in text) == (not no_color)
    if not no_color:
        assert b"1 of 6" in text and "x…".encode() in text


def test_ctrl_c_leaves_and_says_where_things_are(repo: Repo, tmp_path: Path) -> None:
    place = tmp_path / "new"
    with repo.background("demo", "--dir", place) as running:
        eventually(lambda: "started" in running.text(), PATIENCE)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 130
        assert f"interrupted; what there is by now is in {place}" in running.text()
        assert "Traceback" not in running.text()
