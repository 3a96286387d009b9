"""The commands that write: enqueue, edit, and a person's moves, through the installed program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import OCTOPOID, Repo, commit, drop, eventually, git, init, landed, script, state_of

from octopoid import attempts, journal, lifecycle, look, replies, sections, stopping, taskfile
from octopoid.errors import UsageError
from octopoid.model import Opening
from octopoid.states import State

ONE_FILE = {"append": {"path": "notes/${OCTOPOID_TASK_ID}.md", "text": "note ${OCTOPOID_ATTEMPT}\n"}}
WORKS = {"tasks": {"default": {"implementer": [[ONE_FILE, {"commit": "Work"}]]}}}
HANGS = {"tasks": {"default": {"implementer": [[ONE_FILE, {"say": "at work"}, "hang"]]}}}
HUMAN = {"gates": ["checks", "human"]}


def enqueued(repo: Repo, *args: str | Path, input: str | None = None) -> Path:  # noqa: A002 - as in harness
    """The file of a task that `enqueue ARGS` made."""
    task = repo.octopoid("enqueue", *args, input=input).out
    assert re.fullmatch(r"[a-z0-9-]+-[a-z0-9]{4}\n", task)
    return repo.layout.task_file(State.INCOMING, task.strip())


def queue(repo: Repo) -> list[Path]:
    return sorted(repo.layout.queue.rglob("*.md"))


def editor(place: Path, text: str) -> dict[str, str]:
    """An editor that is a shell script; $1 is the file."""
    path = place / "my editor"
    path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
    path.chmod(0o755)
    return {"EDITOR": f"'{path}'", "VISUAL": ""}


# --- enqueue ---


def test_stdout_is_the_id_alone_and_the_file_is_there(repo: Repo) -> None:
    init(repo)
    path = enqueued(repo, "Add dark mode!")
    assert path.name.startswith("add-dark-mode-")
    assert path.read_bytes() == b"# Add dark mode!\n"
    assert [event.event for event in journal.read(repo.layout)] == ["enqueue"]


def test_options_become_front_matter_that_reads_back(repo: Repo) -> None:
    init(repo)
    git(repo, "branch", "dev")
    first = enqueued(repo, "First").stem
    options = ("--priority", "p0", "--role", "implementer", "--after", "first", "--label", "ui", "--label", "a b")
    path = enqueued(repo, "Next: do it", "-b", "One.\n\nTwo.", "--base", "dev", *options)
    task = taskfile.parse(path.read_bytes(), path)
    assert (task.title, task.body) == ("Next: do it", "One.\n\nTwo.")
    assert (task.priority, task.role, task.base, task.labels) == (0, "implementer", "dev", ("ui", "a b"))
    assert task.depends_on == (first,)


def test_json_is_the_task(repo: Repo) -> None:
    init(repo)
    found = repo.octopoid("enqueue", "Say it", "--json", "--label", "x").json()
    assert (found["schema_version"], found["kind"]) == (1, "enqueue")
    task = found["task"]
    assert Path(task["path"]).read_text().endswith("# Say it\n")
    assert (task["state"], task["ready"], task["labels"]) == ("incoming", True, ["x"])
    shown = repo.octopoid("show", task["id"], "--json").json()["task"]
    assert shown == task
    assert task["base"] == "main", "where it lands is known before anything ran"
    assert repo.octopoid("list", "--json").json()["tasks"] == [task]
    assert repo.octopoid("status", "--json").json()["waiting"] == [task]


def test_a_text_comes_from_a_file_or_from_stdin(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    (tmp_path / "text.txt").write_text("From a file.\n")
    assert enqueued(repo, "T", "-f", tmp_path / "text.txt").read_text() == "# T\n\nFrom a file.\n"
    assert enqueued(repo, "T", "-", input="From a pipe.\n").read_text() == "# T\n\nFrom a pipe.\n"
    assert enqueued(repo, "T", "-f", "-", input="Also.\n").read_text() == "# T\n\nAlso.\n"
    assert enqueued(repo, "-", input="# Whole\n\nText\n").read_text() == "# Whole\n\nText\n"
    assert enqueued(repo, "-", input="\nSay hello\nplease\n").name.startswith("say-hello-")


def test_a_whole_task_file_goes_in_as_it_is(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    data = b"\xef\xbb\xbf---\r\npriority: P1   # mine\r\nx-mine: [1, 2]\r\n---\r\n# Whole file\r\n\r\ntext \r\n"
    (tmp_path / "Idea One.md").write_bytes(data)
    path = enqueued(repo, "-f", tmp_path / "Idea One.md")
    assert path.read_bytes() == data
    assert path.name.startswith("whole-file-")


def test_a_file_without_heading_is_called_by_its_name(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    (tmp_path / "Mend the Roof.txt").write_bytes(b"It drips.\r\nHere.\r\n")
    path = enqueued(repo, "-f", tmp_path / "Mend the Roof.txt", "--priority", "P1")
    assert path.name.startswith("mend-the-roof-")
    assert path.read_bytes() == b"---\r\npriority: P1\r\n---\r\nIt drips.\r\nHere.\r\n"


def test_stdin_is_not_read_without_a_dash(repo: Repo) -> None:
    init(repo)
    with subprocess.Popen(
        [str(OCTOPOID), "enqueue", "No waiting"], cwd=repo.root, env=repo.env, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.wait(60) == 0  # while its stdin is open


WRONG: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("enqueue",), 2, "what is to be done?"),
    (("enqueue", ""), 2, "what is to be done?"),
    (("enqueue", "Two", "words"), 2, "put the title in quotes"),
    (("enqueue", "T", "-b", "x", "-"), 2, "give one of them"),
    (("enqueue", "T", "--priority", "high"), 2, "P0 (most urgent)"),
    (("enqueue", "T", "--role", "implementor"), 3, "did you mean `implementer`?"),
    (("enqueue", "T", "--flow", "defualt"), 3, "did you mean `default`?"),
    (("enqueue", "T", "--base", "nowhere"), 3, "there is no branch `nowhere`"),
    (("enqueue", "T", "--base", "main", "--project", "web"), 2, "lands on the branch of the project"),
    (("enqueue", "T", "--flow", "project"), 2, "octopoid project land NAME makes that task"),
    (("enqueue", "T", "--base", "--upload-pack=x"), 2, "cannot be the name of a branch"),
    (("enqueue", "T", "--after", "nothing"), 3, "there is no task 'nothing'"),
    (("enqueue", "T", "-f", "nothing.md"), 3, "there is no file nothing.md"),
    (("enqueue", "T", "-f", "."), 2, "cannot be read"),
    (("enqueue", "two\nlines"), 4, "one line"),
    (("enqueue", "T", "--label", "\x07"), 4, "control character"),
)


@pytest.mark.parametrize(("args", "status", "message"), WRONG, ids=lambda value: repr(value)[:40])
def test_what_is_wrong_is_said_and_nothing_is_added(
    repo: Repo, args: tuple[str, ...], status: int, message: str
) -> None:
    init(repo)
    answer = repo.octopoid(*args, ok=[status])
    assert message in answer.err
    assert (answer.out, queue(repo)) == ("", [])


BROKEN: tuple[tuple[bytes, str], ...] = (
    (b"---\npriorty: P1\n---\n# T\n", "bad.md:2:1: unknown key `priorty`"),
    (b"---\nlabels: [a\n---\n# T\n", "bad.md:"),
    (b"---\ndepends_on: [nothing]\n---\n# T\n", "depends on `nothing`, which does not exist"),
    (b"# T\n\xff\n", "not UTF-8"),
    (b"# T\0\n", "NUL"),
    (b"", "is empty"),
    (b" \n", "is empty"),
)


@pytest.mark.parametrize(("data", "message"), BROKEN, ids=lambda value: repr(value)[:30])
def test_a_file_that_would_be_invalid_is_refused_by_its_own_name(repo: Repo, data: bytes, message: str) -> None:
    init(repo)
    (repo.root / "bad.md").write_bytes(data)
    answer = repo.octopoid("enqueue", "-f", "bad.md", ok=[4])
    assert message in answer.err
    assert queue(repo) == []


def test_options_and_a_file_with_front_matter_of_its_own_do_not_mix(repo: Repo) -> None:
    init(repo)
    (repo.root / "own.md").write_text("---\npriority: P1\n---\n# Own\n")
    assert "front matter of its own" in repo.octopoid("enqueue", "-f", "own.md", "--priority", "P0", ok=[2]).err
    assert "leave the title out" in repo.octopoid("enqueue", "T", "-f", "own.md", ok=[2]).err
    assert queue(repo) == []


def test_a_task_after_a_cancelled_one_would_never_start(repo: Repo) -> None:
    init(repo)
    drop(repo, "gone", "# Gone\n", state=State.CANCELLED)
    assert "was cancelled" in repo.octopoid("enqueue", "T", "--after", "gone", ok=[5]).err


def test_no_text_reaches_a_shell_and_no_name_leaves_the_queue(repo: Repo) -> None:
    init(repo)
    for title in ("$(touch pwn)`touch pwn`; touch pwn", "../../x", "--", "-rf", "é\u202e", "n" * 200):
        path = enqueued(repo, "--", title)
        assert path.parent == repo.layout.folder(State.INCOMING)
        assert taskfile.parse(path.read_bytes(), path).title == title
    assert not (repo.root / "pwn").exists()
    assert not look.Observer(repo.layout).look().problems


def test_edit_opens_the_draft_outside_the_queue(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    env = editor(tmp_path, 'case "$1" in *queue*) exit 9;; esac; echo "More." >> "$1"; echo noise')
    answer = repo.octopoid("enqueue", "Drafted", "--edit", env=env)
    path = repo.layout.task_file(State.INCOMING, answer.out.strip())
    assert path.read_text() == "# Drafted\nMore.\n"
    env = editor(tmp_path, 'echo "# From nothing" > "$1"')
    assert repo.octopoid("enqueue", "--edit", env=env).out.startswith("from-nothing-")
    assert not list((repo.layout.run / "drafts").iterdir())


def test_a_draft_that_comes_to_nothing_adds_nothing_and_one_that_is_wrong_is_kept(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    assert "nothing was written" in repo.octopoid("enqueue", "--edit", env=editor(tmp_path, "true"), ok=[1]).err
    assert "status 3" in repo.octopoid("enqueue", "T", "--edit", env=editor(tmp_path, "exit 3"), ok=[1]).err
    env = editor(tmp_path, 'printf -- "---\\nprio: 1\\n---\\n# T\\n" > "$1"')
    answer = repo.octopoid("enqueue", "T", "--edit", env=env, ok=[4])
    assert "unknown key `prio`" in answer.err and "octopoid enqueue -f " in answer.err
    assert queue(repo) == []
    assert "prio: 1" in "".join(path.read_text() for path in (repo.layout.run / "drafts").iterdir())
    assert "set VISUAL or EDITOR" in repo.octopoid("enqueue", "T", "--edit", ok=[2]).err
    env = {"EDITOR": "no-such-editor"}
    assert "cannot be started" in repo.octopoid("enqueue", "T", "--edit", env=env, ok=[1]).err


QUICKLY = "import sys; from octopoid.cli.adding import quick\nfor _ in range(int(sys.argv[1])): quick(sys.argv[2])"


def together(repo: Repo, argvs: Sequence[Sequence[str]]) -> list[tuple[int, str, str]]:
    """Start all of them at once; status, stdout and stderr of each."""
    started = [
        subprocess.Popen(
            argv, cwd=repo.root, env=repo.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        for argv in argvs
    ]
    answers = [process.communicate(timeout=100) for process in started]
    return [(process.returncode, *answer) for process, answer in zip(started, answers, strict=True)]


def test_eight_processes_that_add_fifty_each_lose_none(repo: Repo) -> None:
    init(repo)
    argv = [sys.executable, "-c", QUICKLY, "50", "The same title"]
    answers = together(repo, [argv] * 8)
    assert [status for status, _, _ in answers] == [0] * 8, answers[0][2]
    ids = [task for _, out, _ in answers for task in out.split()]
    assert len(set(ids)) == len(ids) == 400
    assert {path.stem for path in queue(repo)} == set(ids)
    assert {path.read_bytes() for path in queue(repo)} == {b"# The same title\n"}
    assert len(list(journal.read(repo.layout))) == 400
    assert not [path for path in repo.layout.folder(State.INCOMING).iterdir() if path.name[0] == "."]


CLAIM_NAME = """
import sys, time
from pathlib import Path
from octopoid import lifecycle
from octopoid.errors import Conflict
from octopoid.layout import Layout
wins = []
for number in range(100):
    try:
        lifecycle.enqueue(Layout(Path(sys.argv[1])), f"task-{number}", (sys.argv[2] * 1000).encode(), time.time())
        wins.append(number)
    except Conflict:
        pass
print(*wins)
"""


def test_one_id_is_given_once(repo: Repo) -> None:
    """Nobody's file is overwritten, nobody is told of a success that was not theirs (LESSONS 1, 10)."""
    init(repo)
    answers = together(repo, [[sys.executable, "-c", CLAIM_NAME, str(repo.root), word] for word in "abcd"])
    assert [status for status, _, _ in answers] == [0] * 4, answers[0][2]
    winners = {word: {int(one) for one in out.split()} for word, (_, out, _) in zip("abcd", answers, strict=True)}
    assert sum(len(won) for won in winners.values()) == 100
    for word, won in winners.items():
        for number in won:
            path = repo.layout.task_file(State.INCOMING, f"task-{number}")
            assert path.read_text() == word * 1000


# --- edit ---


def test_edit_saves_what_was_typed_and_checks_it(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    path = drop(repo, "roof", "---\n# keep this\n---\n# Roof\n")
    repo.octopoid("edit", "roo", env=editor(tmp_path, 'echo "It drips." >> "$1"'))
    assert path.read_text() == "---\n# keep this\n---\n# Roof\nIt drips.\n"
    assert "nothing was changed" in repo.octopoid("edit", "roof", env=editor(tmp_path, "true")).err
    answer = repo.octopoid("edit", "roof", env=editor(tmp_path, 'sed -i "2s/.*/priority: P9/" "$1"'), ok=[4])
    assert "roof.md:2:11: `P9` is not a priority" in answer.err
    assert "P9" in path.read_text(), "a person's text is saved, be it right or not"
    repo.octopoid("edit", "nothing", env=editor(tmp_path, "true"), ok=[3])


def test_an_edit_finds_its_task_after_it_was_claimed(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    path = drop(repo, "roof", "# Roof\n")
    claimed = repo.layout.task_file(State.CLAIMED, "roof")
    repo.octopoid("edit", "roof", env=editor(tmp_path, f'mv "{path}" "{claimed}"; echo "Later." >> "$1"'))
    assert claimed.read_text() == "# Roof\nLater.\n"
    assert not path.exists()


def test_an_edit_overwrites_nobody(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    path = drop(repo, "roof", "# Roof\n")
    env = editor(tmp_path, f'echo "Theirs." >> "{path}"; echo "Mine." >> "$1"')
    answer = repo.octopoid("edit", "roof", env=env, ok=[5])
    assert path.read_text() == "# Roof\nTheirs.\n"
    (draft,) = (repo.layout.run / "drafts").iterdir()
    assert draft.read_text() == "# Roof\nMine.\n"
    assert str(draft.relative_to(repo.root)) in answer.err


# --- the moves ---


def at_human(repo: Repo, *tasks: str) -> None:
    """Tasks whose work waits for a person's yes."""
    script(repo, WORKS, **HUMAN)
    for task in tasks:
        drop(repo, task, f"# {task.title()}\n")
    repo.octopoid("run", "--until-empty", ok=[6])
    assert {state_of(repo, task) for task in tasks} == {State.PROVISIONAL}


def test_approve_lands_and_saying_it_twice_changes_nothing(repo: Repo) -> None:
    at_human(repo, "one", "two")
    answer = repo.octopoid("approve", "one", "two", "--json").json()
    assert [one["id"] for one in answer["approved"]] == ["one", "two"]
    entries = sorted(repo.layout.entries("one").glob("[0-9]*"))
    assert "run --until-empty" in repo.octopoid("approve", "one", "-m", "nice").err
    assert sorted(repo.layout.entries("one").glob("[0-9]*")) == entries
    repo.octopoid("run", "--until-empty")
    assert sorted(landed(repo)) == ["one", "two"]
    assert "is in done" in repo.octopoid("approve", "one", ok=[5]).err


def test_eight_people_approve_at_once_and_it_lands_once(repo: Repo) -> None:
    at_human(repo, "one")
    answers = together(repo, [[str(OCTOPOID), "approve", "one"]] * 8)
    assert [status for status, _, _ in answers] == [0] * 8
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("one",)


def test_reject_sends_back_with_the_reason_which_the_next_prompt_has(repo: Repo) -> None:
    at_human(repo, "one")
    assert "a reason is needed" in repo.octopoid("reject", "one", ok=[2]).err
    assert state_of(repo, "one") is State.PROVISIONAL
    repo.octopoid("reject", "one", "-m", "Use the blue one.")
    path = repo.layout.task_file(State.INCOMING, "one")
    assert "Use the blue one." in (sections.read(path.read_bytes(), "feedback") or "")
    repo.octopoid("run", "--until-empty", ok=[6])
    prompts = [path.read_text() for path in sorted(repo.layout.entries("one").glob("*/prompt.md"))]
    assert "Use the blue one." not in prompts[0] and "Use the blue one." in prompts[-1]


def test_without_a_candidate_there_is_nothing_to_judge(repo: Repo) -> None:
    init(repo)
    drop(repo, "one", "# One\n")
    for verb in (("approve",), ("reject", "-m", "no")):
        answer = repo.octopoid(verb[0], "one", *verb[1:], ok=[5])
        assert "is in incoming: there is no candidate" in answer.err and "octopoid why one" in answer.err
    repo.octopoid("approve", "nothing", ok=[3])
    assert not repo.layout.entries("one").exists()


def test_several_ids_each_get_their_turn_and_the_worst_status_counts(repo: Repo) -> None:
    at_human(repo, "one")
    drop(repo, "two", "# Two\n")
    answer = repo.octopoid("approve", "two", "one", ok=[5])
    assert "approved one" in answer.err and "\ntwo is in incoming" in f"\n{answer.err}"
    answer = repo.octopoid("cancel", "two", "nothing", ok=[3])
    assert state_of(repo, "two") is State.INCOMING, "all ids are looked up before anything is done"


ASKS = {
    "tasks": {
        "one": {
            "implementer": [[{"question": ["Which colour?", "How large?"]}], [ONE_FILE, {"commit": "Answered"}]],
        }
    }
}


def asked(repo: Repo) -> Path:
    script(repo, ASKS)
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty", ok=[6])
    return repo.layout.task_file(State.BLOCKED, "one")


def test_answers_come_with_the_command(repo: Repo) -> None:
    path = asked(repo)
    answer = repo.octopoid("answer", "one", ok=[2])
    assert "1: Which colour?" in answer.err and "2: How large?" in answer.err
    status = repo.octopoid("status", "--json").json()
    assert status["needs_you"][0]["detail"] == "Which colour? (and 1 more)"
    assert "How large?" in repo.octopoid("show", "one").out
    assert "nothing was kept" in repo.octopoid("answer", "one", "-m", "2: large", ok=[2]).err
    assert "3 answers for 2 open questions" in repo.octopoid("answer", "one", *["-m", "x"] * 3, ok=[2]).err
    assert path.exists()
    repo.octopoid("answer", "one", "-m", "Blue.", "-m", "Very.")
    text = repo.layout.task_file(State.INCOMING, "one").read_bytes()
    assert sections.strip(text) == b"# One\n"
    repo.octopoid("run", "--until-empty")
    prompt = (repo.layout.entry("one", _last_attempt(repo, "one")) / "prompt.md").read_text()
    assert all(word in prompt for word in ("Which colour?", "Blue.", "How large?", "Very."))
    assert "asks nothing" in repo.octopoid("answer", "one", "-m", "again", ok=[5]).err


def _last_attempt(repo: Repo, task: str) -> int:
    return max(int(path.parent.name) for path in repo.layout.entries(task).glob("*/prompt.md"))


def test_answers_in_the_file_count_and_the_command_fills_the_rest(repo: Repo) -> None:
    path = asked(repo)
    path.write_text(path.read_text().replace("\nAnswer:", "\nAnswer: Green.", 1))
    repo.octopoid("answer", "one", "-m", "Tiny.")
    ledger = lifecycle.ledger_of(repo.layout, "one")
    assert "Question: Which colour?\nAnswer: Green." in ledger.feedback[-1].text
    assert "Question: How large?\nAnswer: Tiny." in ledger.feedback[-1].text


REPLIES: tuple[tuple[tuple[str, str], tuple[str, ...], tuple[str, str] | str], ...] = (
    (("", ""), (), ("", "")),
    (("a", "b"), (), ("a", "b")),
    (("", ""), ("x", "y"), ("x", "y")),
    (("", ""), ("both",), ("both", "both")),
    (("a", ""), ("y",), ("a", "y")),
    (("", ""), ("2: y",), ("", "y")),
    (("", ""), ("2) y", "1. x"), ("x", "y")),
    (("a", "b"), ("1: x",), ("x", "b")),
    (("a", "b"), ("x", "y"), ("x", "y")),
    (("", ""), ("2: y", "x"), ("2: y", "x")),
    (("", ""), ("3: z",), "there is no question 3"),
    (("a", ""), ("x", "y"), "2 answers for 1 open questions"),
)


@pytest.mark.parametrize(("typed", "given", "wanted"), REPLIES)
def test_which_reply_goes_to_which_question(
    typed: tuple[str, str], given: tuple[str, ...], wanted: tuple[str, str] | str
) -> None:
    questions = ("One?", "Two?")
    answers = tuple(zip(questions, typed, strict=True))
    if isinstance(wanted, str):
        with pytest.raises(UsageError, match=wanted):
            replies.pairs(questions, answers, given)
    else:
        assert replies.pairs(questions, answers, given) == tuple(zip(questions, wanted, strict=True))


def test_one_question_takes_a_reply_that_looks_numbered() -> None:
    assert replies.pairs(("Which?",), (), ("2: the second",)) == (("Which?", "2: the second"),)


def test_reopen_and_retry_and_where_they_do_not_apply(repo: Repo) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty")
    assert "octopoid reopen one" in repo.octopoid("retry", "one", ok=[5]).err
    assert "octopoid reopen one" in repo.octopoid("cancel", "one", ok=[5]).err
    repo.octopoid("reopen", "one", "-m", "Once more.")
    repo.octopoid("reopen", "one", ok=[5])
    repo.octopoid("run", "--until-empty")
    assert landed(repo) == ("one", "one")
    drop(repo, "two", "# Two\n", state=State.BLOCKED)
    repo.octopoid("retry", "two", "-m", "Try again.")
    assert state_of(repo, "two") is State.INCOMING


def test_cancel_twice_at_once_works_once(repo: Repo) -> None:
    init(repo)
    for number in range(3):
        drop(repo, f"task-{number}", "# T\n")
        answers = together(repo, [[str(OCTOPOID), "cancel", f"task-{number}"]] * 3)
        assert sorted(status for status, _, _ in answers) == [0, 5, 5], answers
        assert state_of(repo, f"task-{number}") is State.CANCELLED
    events = [event.event for event in journal.read(repo.layout)]
    assert events.count("cancel") == 3


def test_work_that_is_on_the_base_already_cannot_be_taken_back(repo: Repo) -> None:
    """A landing that was cut short after the base had moved: the base decides (DESIGN §4)."""
    at_human(repo, "one")
    head = git(repo, "rev-parse", "HEAD")
    candidate = lifecycle.ledger_of(repo.layout, "one").candidate
    opening = Opening("landing", 0.0, base="main", base_sha=head, onto=head, candidate=candidate, result_sha=candidate)
    attempts.begin(repo.layout, "one", opening)
    git(repo, "merge", "-q", "--ff-only", candidate)
    for verb in (("cancel",), ("retry",), ("reject", "-m", "no")):
        assert "is on main already" in repo.octopoid(verb[0], "one", *verb[1:], ok=[5]).err
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "one") is State.DONE


def test_a_broken_policy_keeps_nobody_from_deciding(repo: Repo) -> None:
    at_human(repo, "one", "two", "three")
    repo.layout.agents_yaml.write_text("version: 1\nbse: main\n")
    repo.octopoid("approve", "one")
    repo.octopoid("reject", "two", "-m", "no")
    repo.octopoid("cancel", "three")
    assert state_of(repo, "two") is State.INCOMING
    assert state_of(repo, "three") is State.CANCELLED
    assert (repo.layout.landing_locks / "main.lock").exists(), "the lock that the scheduler takes, too"


# --- what runs ---


def hanging(repo: Repo, task: str = "one") -> Path:
    """A task whose agent hangs, started by a scheduler that has left; the entry of its attempt."""
    script(repo, HANGS, grace="1s")
    drop(repo, task, f"# {task.title()}\n")
    repo.octopoid("run", "--once")
    (entry,) = stopping.live(repo.layout, task)
    eventually(lambda: b"at work" in (entry / "output.log").read_bytes() if (entry / "output.log").exists() else b"")
    return entry


def test_cancel_ends_the_agent_without_a_scheduler(repo: Repo) -> None:
    entry = hanging(repo)
    answer = repo.octopoid("cancel", "one")
    assert "cancelled one (it was in claimed)" in answer.err and f"ended its run {entry.name}" in answer.err
    assert not stopping.live(repo.layout, "one")
    assert state_of(repo, "one") is State.CANCELLED
    repo.octopoid("run", "--once")
    assert (entry / "outcome.json").exists()
    assert (repo.layout.home / "worktrees/one/notes/one.md").exists(), "its work stays"


def test_cancel_ends_an_agent_whose_supervisor_was_killed(repo: Repo) -> None:
    entry = hanging(repo)
    pid = int(re.findall(r'"runner_pid": ?([0-9]+)', (entry / "pid").read_text())[0])
    os.kill(pid, 9)
    assert stopping.live(repo.layout, "one") == (entry,)
    repo.octopoid("cancel", "one")
    assert not stopping.live(repo.layout, "one")


def test_cancel_and_retry_under_a_scheduler(repo: Repo) -> None:
    gone = [ONE_FILE, {"run": "test $OCTOPOID_ATTEMPT -gt 1 || sleep 600"}, {"commit": "Work"}]
    script(repo, {"tasks": {"default": {"implementer": [gone]}}}, grace="1s")
    drop(repo, "one", "# One\n")
    drop(repo, "two", "# Two\n")
    with repo.background("run") as scheduler:
        eventually(lambda: stopping.live(repo.layout, "one") and stopping.live(repo.layout, "two"))
        repo.octopoid("cancel", "one")
        repo.octopoid("retry", "two")
        assert not stopping.live(repo.layout, "one")
        eventually(lambda: state_of(repo, "two") is State.DONE, 20)
        assert scheduler.process.poll() is None
        assert state_of(repo, "one") is State.CANCELLED
    assert landed(repo) == ("two",)


def test_retry_ends_the_agent_and_keeps_its_work(repo: Repo) -> None:
    entry = hanging(repo)
    repo.octopoid("retry", "one", "-m", "Do not hang.")
    assert not stopping.live(repo.layout, "one")
    assert state_of(repo, "one") is State.INCOMING
    script(repo, WORKS)
    repo.octopoid("run", "--until-empty")
    assert (repo.root / "notes/one.md").read_text() == "note 1\nnote 2\n"
    assert '"charged": true' not in (entry / "outcome.json").read_text()


def test_stop_one_parks_it(repo: Repo) -> None:
    hanging(repo)
    answer = repo.octopoid("stop", "one")
    assert "ended the run of one" in answer.err and "octopoid run --once" in answer.err
    repo.octopoid("run", "--once")
    assert state_of(repo, "one") is State.BLOCKED
    assert repo.octopoid("show", "one", "--json").json()["task"]["reason"] == "parked"
    assert "nothing runs for one" in repo.octopoid("stop", "one", ok=[5]).err


def test_stop_without_a_scheduler_says_so_and_now_ends_the_agents(repo: Repo) -> None:
    hanging(repo)
    answer = repo.octopoid("stop")
    assert "no scheduler is running" in answer.err and "still running, on their own: one" in answer.err
    assert not repo.layout.stop_request.exists()
    assert "ended the run of one" in repo.octopoid("stop", "--now").err
    assert not stopping.live(repo.layout, "one")
    repo.octopoid("stop", "one", "--now", ok=[2])


def test_stop_asks_a_scheduler_to_leave_and_the_agent_goes_on(repo: Repo) -> None:
    script(repo, HANGS, grace="1s")
    drop(repo, "one", "# One\n")
    with repo.background("run") as scheduler:
        eventually(lambda: stopping.live(repo.layout, "one"))
        assert "has left" in repo.octopoid("stop").err
        assert scheduler.process.wait(10) == 0
        assert stopping.live(repo.layout, "one"), "the agent goes on"
        assert not repo.layout.stop_request.exists()


def test_stop_one_under_a_scheduler_parks_it_at_once(repo: Repo) -> None:
    script(repo, HANGS, grace="1s")
    drop(repo, "one", "# One\n")
    with repo.background("run"):
        eventually(lambda: stopping.live(repo.layout, "one"))
        repo.octopoid("stop", "one")
        eventually(lambda: state_of(repo, "one") is State.BLOCKED)
        assert "has left" in repo.octopoid("stop", "--now").err


def test_an_agent_does_not_start_a_scheduler_and_nobody_does_in_a_worktree(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    assert "an agent must not" in repo.octopoid("run", "--once", env={"OCTOPOID_ATTEMPT_DIR": "/x"}, ok=[5]).err
    git(repo, "worktree", "add", "-q", "--detach", tmp_path / "linked")
    assert "linked worktree" in repo.octopoid("run", "--once", cwd=tmp_path / "linked", ok=[5]).err
    assert "give one of them" in repo.octopoid("run", "--once", "--until-empty", ok=[2]).err


def test_dry_run_does_nothing(repo: Repo) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    assert "one" in repo.octopoid("run", "--dry-run").out
    assert state_of(repo, "one") is State.INCOMING
    assert not repo.layout.entries("one").exists()


# --- pause and resume ---


def test_a_paused_queue_starts_nothing_until_it_is_resumed(repo: Repo) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    repo.octopoid("pause")
    assert "paused already" in repo.octopoid("pause").err
    repo.octopoid("run", "--until-empty", ok=[6])
    assert state_of(repo, "one") is State.INCOMING
    assert "resumed: everything" in repo.octopoid("resume").err
    assert "nothing was paused" in repo.octopoid("resume").err
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "one") is State.DONE


def test_a_task_and_an_agent_are_paused_by_name(repo: Repo) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    assert "did you mean `implementer`?" in repo.octopoid("pause", "--agent", "implmenter", ok=[3]).err
    assert "no task" in repo.octopoid("pause", "nothing", ok=[3]).err
    repo.octopoid("pause", "one", "--agent", "implementer")
    assert sorted(os.listdir(repo.layout.pause)) == ["agent-implementer", "task-one"]
    assert "still paused: agent implementer" in repo.octopoid("resume", "one").err
    repo.octopoid("resume")
    assert os.listdir(repo.layout.pause) == []


def test_resume_of_an_agent_closes_its_breaker(repo: Repo) -> None:
    script(repo, WORKS)
    entry = '{"why": "no quota", "since": "2026-01-01T00:00:00Z", "until": "2036-01-01T00:00:00Z", "trips": 3}'
    repo.layout.breakers.write_text(f'{{"agent:implementer": {entry}, "other": {entry}}}')
    assert "octopoid resume --breaker other" in repo.octopoid("resume", "--agent", "implementer").err
    assert "did you mean `other`?" in repo.octopoid("resume", "--breaker", "othre", ok=[3]).err
    assert "closed the breaker other" in repo.octopoid("resume", "--breaker", "all").err
    assert repo.layout.breakers.read_text().strip() == "{}"


# --- agents ---


@pytest.mark.parametrize(
    "command",
    [("approve", "one"), ("retry", "one"), ("cancel", "one"), ("stop",), ("pause",), ("resume",), ("clean",)],
    ids=" ".join,
)
def test_an_agent_does_not_decide(repo: Repo, command: tuple[str, ...]) -> None:
    at_human(repo, "one")
    inside = {"OCTOPOID_ATTEMPT_DIR": str(repo.layout.entry("one", 1))}
    answer = repo.octopoid(*command, env=inside, ok=[5])
    assert "an agent called it" in answer.err and "octopoid schema result" in answer.err
    assert state_of(repo, "one") is State.PROVISIONAL
    elsewhere = {"OCTOPOID_ATTEMPT_DIR": "/nowhere/attempts/one/001"}
    repo.octopoid("approve", "one", env=elsewhere)  # the agent of another queue may try ours out


# --- run ---


def test_run_says_how_it_ended(repo: Repo) -> None:
    at_human(repo, "one")
    assert "next: nothing goes on without you" in repo.octopoid("run", "--until-empty", ok=[6]).err
    assert "one: human: " in (answer := repo.octopoid("run", "--dry-run")).out and "next: " in answer.err
    repo.octopoid("approve", "one")
    assert repo.octopoid("run", "--until-empty").err.endswith("next: octopoid status\n")
    assert repo.octopoid("run", "--once").err == "", "cron mails what is said"


# --- clean ---


def test_clean_archives_and_removes_what_is_safe(repo: Repo) -> None:
    script(repo, WORKS)
    for task in ("one", "two"):
        drop(repo, task, f"# {task}\n")
    repo.octopoid("run", "--until-empty")
    plan = repo.octopoid("clean", "--dry-run").out
    assert state_of(repo, "one") is State.DONE
    done = repo.octopoid("clean").out
    assert plan.replace("would ", "") == done
    assert "archive  one" in done and "remove   .octopoid/worktrees/" in done
    assert state_of(repo, "one") is State.ARCHIVED
    assert not list((repo.layout.home / "worktrees").glob("*"))
    assert list(repo.layout.entries("one").glob("[0-9]*")), "evidence stays"
    assert "nothing to clean" in repo.octopoid("clean").err
    drop(repo, "three", "---\ndepends_on: [one]\n---\n# Three\n")
    repo.octopoid("run", "--until-empty")
    assert state_of(repo, "three") is State.DONE, "an archived task satisfies its dependents"


@pytest.mark.parametrize("mode", ["squash", "rebase", "none"])
def test_clean_knows_what_landed_in_another_shape(repo: Repo, mode: str) -> None:
    script(repo, WORKS, land={"mode": mode})
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty")
    assert "remove   .octopoid/worktrees/one" in repo.octopoid("clean").out


def test_clean_sees_through_the_commits_that_were_made_for_the_checks(repo: Repo) -> None:
    """The base moves after the checks: their commit is in no branch, the work that it was made of is."""
    at_human(repo, "one")
    repo.octopoid("approve", "one")
    worktree = repo.layout.home / "worktrees/one"
    checked = git(repo, "rev-parse", "HEAD", at=worktree)
    commit(repo, {"other.txt": "meanwhile\n"})
    repo.octopoid("run", "--until-empty")
    git(repo, "checkout", "-q", "--detach", checked, at=worktree)
    assert git(repo, "branch", "--contains", checked) == ""
    assert "remove   .octopoid/worktrees/one" in repo.octopoid("clean").out


def test_clean_keeps_unlanded_work_until_it_is_named(repo: Repo) -> None:
    at_human(repo, "one", "two")
    repo.octopoid("cancel", "one")
    worktree = repo.layout.home / "worktrees/one"
    assert "commits that have not landed" in repo.octopoid("clean").out
    assert "its worktree is needed" in repo.octopoid("clean", "--force", "two", ok=[1]).err
    assert "a whole id" in repo.octopoid("clean", "--force", "tw", ok=[2]).err
    assert (worktree / "notes/one.md").exists()
    repo.octopoid("clean", "--force", "one")
    assert not worktree.exists()
    assert (repo.layout.home / "worktrees/two/notes/two.md").exists()
    assert "one" not in git(repo, "worktree", "list")


def test_clean_keeps_uncommitted_work_and_the_user_s_worktrees(repo: Repo, tmp_path: Path) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty")
    git(repo, "worktree", "add", "-q", "--detach", tmp_path / "one")
    (repo.layout.home / "worktrees/one/mine.txt").write_text("I looked here\n")
    assert "uncommitted work: mine.txt" in repo.octopoid("clean").out
    (repo.layout.home / "worktrees/one/mine.txt").unlink()
    repo.octopoid("clean")
    assert not (repo.layout.home / "worktrees/one").exists()
    assert (tmp_path / "one/README.md").exists()


def test_clean_lists_what_was_set_aside_and_keeps_it_until_it_is_named(repo: Repo) -> None:
    script(repo, WORKS)
    aside = repo.layout.home / "worktrees/.aside-one-1"
    aside.mkdir(parents=True)
    (aside / "mine.txt").write_text("who knows\n")
    assert "kept       .octopoid/worktrees/.aside-one-1" in repo.octopoid("clean").out
    assert (aside / "mine.txt").exists()
    assert "would remove   .octopoid/worktrees/.aside" in repo.octopoid("clean", "--dry-run", "--force", aside.name).out
    repo.octopoid("clean", "--force", aside.name)
    assert not aside.exists()


def test_clean_can_wait_and_deletes_logs_only_when_asked(repo: Repo) -> None:
    script(repo, WORKS)
    drop(repo, "one", "# One\n")
    repo.octopoid("run", "--until-empty")
    repo.octopoid("clean", "--older-than", "7d")
    assert state_of(repo, "one") is State.DONE
    assert "is not an age" in repo.octopoid("clean", "--older-than", "week", ok=[2]).err
    repo.octopoid("clean")
    logs = sorted(repo.layout.entries("one").glob("*/output.log"))
    repo.octopoid("clean", "--logs")
    assert all(path.exists() for path in logs), "they are not old enough"
    for path in logs:
        os.utime(path, (0, 0))
    repo.octopoid("clean", "--logs")
    assert logs and not any(path.exists() for path in logs)
    assert (logs[0].parent / "outcome.json").exists()
