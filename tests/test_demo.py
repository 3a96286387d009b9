"""`octopoid demo`, as somebody sees it who has just installed it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from books import settled
from harness import Answer, Repo, end_marked, eventually, git, landed, make_repo

from octopoid import demo, demofeature
from octopoid.demofeature import TASK, Span
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
    yield from _shown(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def feature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    yield from _shown(tmp_path_factory.mktemp("feature"), "--flow", "feature")


def _shown(place: Path, *options: str) -> Iterator[Shown]:
    caller, temporary = make_repo(place), place / "tmp"
    temporary.mkdir()
    answer = caller.octopoid("demo", *options, env={"TMPDIR": str(temporary)}, ok=None, timeout=PATIENCE)
    assert answer.status == 0, answer.out + answer.err
    (scratch,) = temporary.glob("octopoid-demo-*")
    there = Repo(scratch, caller.env)
    yield Shown(answer, there, caller, temporary)
    wrong = settled(there)
    end_marked(place)
    assert not wrong, "\n".join(wrong)


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
    code = """from octopoid.cli import demoscreen
with demoscreen.display() as shown:
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


# --- --flow feature ---


def test_a_feature_lands_once_and_its_documentation_after_it(feature: Shown) -> None:
    first, second = landed(feature.scratch)
    assert first == TASK and second.startswith("document-")
    argv = [sys.executable, "-m", "textkit", "summary", "README*"]
    assert subprocess.check_output(argv, cwd=feature.scratch.root).split()[1] == b"README.md"
    assert "textkit summary" in (feature.scratch.root / "README.md").read_text(encoding="utf-8")
    for module in ("pytest", "unittest"):
        done = subprocess.run(
            [sys.executable, "-m", module], cwd=feature.scratch.root, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_question_is_answered_and_a_plan_approved_before_anything_is_built(feature: Shown) -> None:
    events = feature.scratch.octopoid("thread", TASK, "--json").json()["posts"]
    told = [(one["kind"], one["who"]) for one in events]
    order = [
        ("question", "planner"),
        ("answer", "person"),
        ("summary", "planner"),
        ("verdict", "person"),
        ("summary", "implementer"),
        ("verdict", "security-reviewer"),
    ]
    assert [told.index(one) for one in order] == sorted(told.index(one) for one in order)
    for command in (f'$ octopoid answer {TASK} -m "{demofeature.ANSWER}"', f"$ octopoid approve {TASK}"):
        assert command in feature.answer.err
    assert "| # Goal" in feature.answer.err, "the plan is shown before it is approved"


def test_three_reviews_ran_at_the_same_time(feature: Shown) -> None:
    ending = demofeature.ending(feature.scratch.layout)
    assert [sorted(one.gate for one in spans) for spans in ending.spans] == [sorted(demofeature.TOGETHER)] * 2
    assert all(demofeature.overlap(spans) > 0 for spans in ending.spans)
    assert feature.answer.err.count("all 3 at work at once for ") == 2


def test_the_security_finding_sends_the_work_back_once_with_all_that_was_found(feature: Shown) -> None:
    layout = feature.scratch.layout
    ledger = ledger_of(layout, TASK)
    assert ledger.tries["implementer"] == 2
    (text,) = demofeature.ending(layout).refusals
    for said in ("reviewer accepts, with remarks", "textkit/summary.py:8: error:", "tester refuses"):
        assert said in text
    prompts = [one.read_text(encoding="utf-8") for one in sorted(layout.entries(TASK).glob("*/prompt.md"))]
    assert any("textkit/summary.py:8: error:" in one for one in prompts)
    assert "shell=True" in git(feature.scratch, "log", "-p", "-m", "--first-parent", f"{ledger.candidate}")
    assert "shell=True" not in (feature.scratch.root / "textkit/summary.py").read_text(encoding="utf-8")


def test_the_documents_of_the_stages_are_kept_and_never_committed(feature: Shown) -> None:
    folder = feature.scratch.layout.artifacts(TASK)
    assert {"research.md", "plan.md"} <= {one.name for one in folder.iterdir()}
    assert "plan.md" not in git(feature.scratch, "ls-files")
    assert git(feature.scratch, "status", "--porcelain") == ""


def test_what_was_noticed_is_proposed_and_can_be_taken_up(feature: Shown) -> None:
    (proposal,) = demofeature.ending(feature.scratch.layout).proposals
    assert feature.scratch.layout.task_file(State.BLOCKED, proposal).exists()
    commands = [line.split("  ")[1] for line in feature.answer.err.partition("Where to look:\n")[2].splitlines()[:-1]]
    assert commands[0] == f"cd {feature.scratch.root}"
    assert commands[-1] == "octopoid retry shorten" and proposal.startswith("shorten")
    for command in commands[1:-1]:
        feature.scratch.octopoid(*command.split()[1:])


def test_the_feature_is_told_in_the_words_of_the_commands(feature: Shown) -> None:
    thread, _, rest = feature.answer.out.partition("$ octopoid status\n")
    board, _, history = rest.partition("$ git log --graph --oneline\n")
    said = feature.scratch.octopoid("thread", TASK).out
    assert thread.removeprefix(f"\n$ octopoid thread {TASK}\n").strip() == said.strip()
    assert board.strip() == feature.scratch.octopoid("status").out.strip()
    assert history.strip() == git(feature.scratch, "log", "--graph", "--oneline", "--decorate").strip()
    assert "\x1b" not in feature.answer.out + feature.answer.err and "\r" not in feature.answer.err
    assert "WRONG" not in feature.answer.err
    assert list(Path(feature.caller.env["HOME"]).iterdir()) == []


def test_what_did_not_happen_is_called_wrong(tmp_path: Path) -> None:
    layout = demofeature.make(demo.find_place(str(tmp_path / "new")))
    demofeature.enqueue(layout, time.time())
    assert demofeature.turn(layout) is None
    wrong = "\n".join(demofeature.ending(layout).wrong)
    for said in (
        "and not research, plan, answer, plan, approve, implement",
        "there is no plan.md",
        "refused 0 times, not once",
        f"{TASK} did not land: it is in incoming",
        "no documentation landed",
        "still has the hole",
        "0 tasks were proposed, not one",
    ):
        assert said in wrong
    assert demofeature.overlap((Span("a", 0.0, 1.0, True), Span("b", 1.5, 2.0, True))) == -0.5


def test_a_flow_without_a_demo_is_refused(repo: Repo) -> None:
    answer = repo.octopoid("demo", "--flow", "featur", ok=(2,))
    assert "there is no demo of the flow featur" in answer.err and "did you mean `feature`?" in answer.err
