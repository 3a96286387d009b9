"""`doctor`: for every code damage that it finds; what --fix mends, mends once, and that nothing else changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import OCTOPOID, PROJECT, Answer, Repo, drop, eventually, git, init, make_repo, script

from octopoid import attempts, locks, service, setup, worktrees
from octopoid.cli import doctor as command
from octopoid.doctor import machine, queues
from octopoid.gitfiles import MARK, git_dir
from octopoid.model import Opening, Outcome
from octopoid.states import State

TASK = "# Something to do\n"
OLD = 7200.0


class Found(NamedTuple):
    """What doctor said, and what it did."""

    answer: Answer
    findings: list[dict[str, Any]]
    fixed: list[dict[str, Any]]

    def codes(self) -> set[str]:
        return {one["code"] for one in self.findings}

    def of(self, code: str) -> list[dict[str, Any]]:
        return [one for one in self.findings if one["code"] == code]

    def one(self, code: str) -> dict[str, Any]:
        assert len(self.of(code)) == 1, (code, self.findings)
        return self.of(code)[0]

    def repaired(self) -> set[str]:
        return {one["code"] for one in self.fixed}


def found(answer: Answer) -> Found:
    record = answer.json()
    assert record["kind"] == "doctor"
    errors = [one for one in record["findings"] if one["severity"] == "error"]
    assert answer.status == (1 if errors else 0), answer
    for one in record["findings"]:
        assert set(one) == {"code", "severity", "message", "fix", "path"}
        assert one["fix"], one
    return Found(answer, record["findings"], record["fixed"])


def doctor(repo: Repo, *words: str, env: dict[str, str] | None = None) -> Found:
    return found(repo.octopoid("doctor", "--json", *words, ok=None, env=env))


def healthy(repo: Repo, **policy: Any) -> Repo:
    """A queue in which nothing is wrong."""
    setup.make_folders(repo.layout)
    setup.make_file(setup.gitignore(repo.layout), setup.GITIGNORE)
    script(repo, {"steps": []}, **policy)
    return repo


def snapshot(repo: Repo) -> dict[str, str]:
    """Everything below the repository's parent: kind, mode, content, time of change. Journal and locks apart."""
    top, seen = repo.root.parent, {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = Path(folder, name)
            facts = path.lstat()
            kind = "link" if path.is_symlink() else stat.filemode(facts.st_mode)
            data = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else ""
            seen[str(path.relative_to(top))] = f"{kind} {data} {facts.st_mtime_ns}"
    return seen


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names that came, went or changed; of folders only those that came or went."""
    both = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    return {name for name in both if not before[name].startswith("d")} | (before.keys() ^ after.keys())


def age(path: Path, seconds: float = OLD) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


# --- nothing is wrong ---


def test_everything_is_in_order(repo: Repo) -> None:
    healthy(repo)
    before = snapshot(repo)
    assert repo.octopoid("doctor").out == "everything is in order\n"
    assert doctor(repo).findings == []
    fixed = doctor(repo, "--fix")
    assert (fixed.findings, fixed.fixed) == ([], [])
    assert changed(before, snapshot(repo)) == set()


def test_without_a_queue_it_says_so_and_how_to_get_one(repo: Repo) -> None:
    here = doctor(repo)
    assert "octopoid init" in here.one("no-queue")["fix"]
    outside = found(repo.octopoid("doctor", "--json", cwd=repo.root.parent, ok=None))
    assert "git init" in outside.one("no-queue")["fix"]
    git(repo, "init", "-q", "--bare", repo.root.parent / "bare.git")
    bare = found(repo.octopoid("--root", repo.root.parent / "bare.git", "doctor", "--json", ok=None))
    assert "bare" in bare.one("no-queue")["message"]
    assert found(repo.octopoid("doctor", "--fix", "--json", ok=None)).fixed == []


# --- the queue, all at once ---


class Ruin(NamedTuple):
    """A queue with many kinds of damage: what doctor says before, while and after mending."""

    repo: Repo
    first: Found
    text: Answer
    fixed: Found
    again: Found
    untouched: set[str]
    mended: set[str]
    repeated: set[str]


def _break_everything(repo: Repo) -> None:
    layout = repo.layout
    drop(repo, "bad", "---\npriorty: P1\n---\n# A typo\n")
    drop(repo, "twice", TASK)
    drop(repo, "twice", TASK, state=State.DONE)
    (layout.folder(State.INCOMING) / "notes.txt").write_text("not a task", encoding="utf-8")
    drop(repo, "fine", TASK)
    drop(repo, "lost-evidence", TASK)
    begun = attempts.begin(layout, "lost-evidence", Opening("release", 1.0, by="person"))
    (begun.path / "attempt.json").write_text("{", encoding="utf-8")
    drop(repo, "idle", TASK, state=State.CLAIMED)
    layout.moving.mkdir()
    (layout.moving / "INCOMING+back.md").write_text(TASK, encoding="utf-8")
    (layout.moving / "INCOMING+onwards.md").write_text(TASK, encoding="utf-8")
    parked = Outcome("block", "", False, "parked", "by hand", 1.0, verb="block", leaves="incoming", enters="blocked")
    attempts.begin(layout, "onwards", Opening("block", 1.0), outcome=parked)
    (layout.moving / "INCOMING+taken.md").write_text("# One\n", encoding="utf-8")
    drop(repo, "taken", "# Two\n")
    (layout.moving / "what.md").write_text(TASK, encoding="utf-8")
    for number, folder in enumerate((layout.folder(State.INCOMING), layout.run, layout.moving)):
        (folder / f".tmp-{number:012x}").write_text("half", encoding="utf-8")
        age(folder / f".tmp-{number:012x}")
        (folder / f".tmp-{number + 8:012x}").write_text("somebody writes this now", encoding="utf-8")
    (layout.folder(State.INCOMING) / ".draft.md.new").write_text("half", encoding="utf-8")
    age(layout.folder(State.INCOMING) / ".draft.md.new")
    (layout.folder(State.INCOMING) / ".mine").write_text("an editor's", encoding="utf-8")
    age(layout.folder(State.INCOMING) / ".mine")
    for name, seconds in ((".new-0123456789ab", OLD), (".new-fedcba987654", 0.0)):
        (layout.entries("fine") / name).mkdir(parents=True)
        age(layout.entries("fine") / name, seconds)
    shutil.rmtree(layout.folder(State.CANCELLED))
    layout.breakers.write_text("{", encoding="utf-8")
    layout.pause.mkdir()
    (layout.pause / "task-fine").touch()
    (layout.pause / "agent-implementer").touch()
    layout.scheduler_pid.write_text('{"pid": 1}', encoding="utf-8")


@pytest.fixture(scope="module")
def ruin(tmp_path_factory: pytest.TempPathFactory) -> Ruin:
    repo = make_repo(tmp_path_factory.mktemp("ruin"))
    agents = {
        "implementer": {"role": "implementer", "adapter": "command", "command": ["no-such-program"]},
        "other": {"role": "implementer", "adapter": "command", "command": ["sh"], "env": ["NO_SUCH_KEY"]},
        "reviewer": {"role": "gatekeeper", "adapter": "command", "command": ["./no/such/program"]},
        "faker": {"role": "implementer", "adapter": "scripted", "script": "no/such/script.json"},
    }
    healthy(repo, agents=agents, checks=[])
    _break_everything(repo)
    before = snapshot(repo)
    first, text = doctor(repo), repo.octopoid("doctor", ok=[1])
    still = snapshot(repo)
    fixed = doctor(repo, "--fix")
    mended = snapshot(repo)
    again = doctor(repo, "--fix")
    return Ruin(
        repo, first, text, fixed, again, changed(before, still), changed(still, mended), changed(mended, snapshot(repo))
    )


def test_looking_writes_nothing(ruin: Ruin) -> None:
    assert ruin.untouched == set()


RUINED = {
    "agent-env": ("warning", False),
    "agent-program": ("error", False),
    "breakers": ("error", True),
    "claimed-idle": ("info", False),
    "duplicate": ("error", False),
    "evidence": ("error", False),
    "folder-missing": ("error", True),
    "invalid": ("error", False),
    "leftover-entry": ("info", True),
    "leftover-file": ("info", True),
    "moving": ("warning", True),
    "no-checks": ("warning", False),
    "paused": ("info", False),
    "scheduler-off": ("info", False),
    "scheduler-pid": ("info", True),
    "stray": ("error", False),
}


def test_exactly_what_is_wrong_is_found(ruin: Ruin) -> None:
    assert ruin.first.codes() == set(RUINED)


@pytest.mark.parametrize("code", RUINED)
def test_each_is_found_with_its_severity(ruin: Ruin, code: str) -> None:
    severities = {one["severity"] for one in ruin.first.of(code)}
    assert RUINED[code][0] in severities
    assert code in ruin.text.out


def test_what_can_be_mended_is_mended_once(ruin: Ruin) -> None:
    assert ruin.fixed.repaired() == {code for code, (_, mends) in RUINED.items() if mends}
    left = {code for code, (_, mends) in RUINED.items() if not mends}
    assert ruin.fixed.codes() == left | {"moving"}
    assert ruin.again.fixed == []
    assert ruin.again.findings == ruin.fixed.findings
    assert ruin.repeated == set()


def test_what_is_wrong_is_said_with_its_place(ruin: Ruin) -> None:
    layout = ruin.repo.layout
    invalid = {one["path"]: one for one in ruin.first.of("invalid")}
    bad = invalid[str(layout.task_file(State.INCOMING, "bad"))]
    assert "line 2, column 1" in bad["message"]
    assert "priority" in bad["fix"]
    duplicates = {Path(one["path"]).name for one in ruin.first.of("duplicate")}
    assert duplicates == {"twice.md", "taken.md"}  # the real `taken` is the one on its way
    assert ruin.first.one("stray")["path"].endswith("notes.txt")
    assert ruin.first.one("evidence")["path"] == str(layout.entries("lost-evidence"))
    assert "NO_SUCH_KEY" in ruin.first.one("agent-env")["message"]
    assert {one["fix"] for one in ruin.first.of("paused")} == {
        "octopoid resume fine",
        "octopoid resume --agent implementer",
    }


def test_a_role_that_nobody_can_do_is_an_error(ruin: Ruin) -> None:
    severities = {one["message"].split(":")[0]: one["severity"] for one in ruin.first.of("agent-program")}
    assert severities == {"agent implementer": "warning", "agent reviewer": "error", "agent faker": "warning"}


def test_mending_touched_nothing_else(ruin: Ruin) -> None:
    home = "project/.octopoid"
    new = {name for name in ruin.mended if "/.broken-breakers.json-" in name}
    assert len(new) == 1
    assert ruin.mended - new == {
        f"{home}/queue/archive/cancelled",
        f"{home}/queue/.moving/INCOMING+back.md",
        f"{home}/queue/incoming/back.md",
        f"{home}/queue/.moving/INCOMING+onwards.md",
        f"{home}/queue/blocked/onwards.md",
        f"{home}/attempts/onwards/001/moved-blocked",
        f"{home}/queue/incoming/.tmp-000000000000",
        f"{home}/run/.tmp-000000000001",
        f"{home}/queue/.moving/.tmp-000000000002",
        f"{home}/queue/incoming/.draft.md.new",
        f"{home}/attempts/fine/.new-0123456789ab",
        f"{home}/run/breakers.json",
        f"{home}/run/scheduler.pid",
        f"{home}/run/scheduler.lock",
        f"{home}/run/moving.lock",
        f"{home}/events.jsonl",
    }


def test_a_queue_that_cannot_be_listed(repo: Repo) -> None:
    """The rest is examined all the same."""
    healthy(repo)
    repo.layout.folder(State.BLOCKED).rmdir()
    repo.layout.folder(State.BLOCKED).write_text("a file", encoding="utf-8")
    (repo.layout.home / ".gitignore").unlink()
    before = snapshot(repo)
    assert doctor(repo).codes() == {"unreadable", "folder-missing", "gitignore", "unchecked"}
    env = {"OCTOPOID_ATTEMPT_DIR": str(repo.root.parent / "nowhere")}
    assert repo.octopoid("doctor", "--fix", env=env, ok=[5]).status == 5  # an agent mends nothing
    assert changed(before, snapshot(repo)) == set()
    assert doctor(repo, "--fix").repaired() == {"gitignore"}


def test_a_folder_that_is_called_like_a_task(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.folder(State.BLOCKED) / "folder.md").mkdir()
    assert doctor(repo).one("invalid")["path"] == str(repo.layout.task_file(State.BLOCKED, "folder"))


def test_repairs_are_in_the_journal(ruin: Ruin) -> None:
    events = [json.loads(line) for line in ruin.repo.layout.events.read_text(encoding="utf-8").splitlines()]
    details = [one["detail"] for one in events if one["event"] == "repair"]
    assert sorted(details) == sorted(f"{one['code']}: {one['message']}" for one in ruin.fixed.fixed)


def test_a_move_whose_way_back_is_taken_stays_and_is_shown(ruin: Ruin) -> None:
    left = {Path(one["path"]).name: one["fix"] for one in ruin.again.of("moving")}
    assert left.keys() == {"INCOMING+taken.md", "what.md"}
    assert "taken-2.md" in left["INCOMING+taken.md"]


def test_nothing_suggests_destruction(ruin: Ruin) -> None:
    """LESSONS 51: what is printed will be run."""
    for one in ruin.first.findings:
        for word in ("rm ", "--force", "reset --hard", "clean -f", "prune"):
            assert word not in one["fix"], one


# --- the policy ---


def test_a_broken_policy_is_an_error_and_the_last_good_one_is_named(repo: Repo) -> None:
    healthy(repo)
    text = repo.layout.agents_yaml.read_text(encoding="utf-8")
    repo.octopoid("run", "--once")
    repo.layout.agents_yaml.write_text(text.replace('"gates"', '"gatez"'), encoding="utf-8")
    seen = doctor(repo)
    assert seen.one("policy")["path"] == str(repo.layout.agents_yaml)
    assert "gates" in seen.one("policy")["fix"]
    assert "last good" in seen.one("policy-last-good")["message"]
    shutil.rmtree(repo.layout.last_good)
    assert doctor(repo).codes() == {"policy"}


def test_an_open_breaker_says_what_closes_it(repo: Repo) -> None:
    healthy(repo)
    times = {"since": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}
    record = {"agent:implementer": {"why": "no money", **times, "trips": 1}}
    repo.layout.breakers.write_text(json.dumps(record), encoding="utf-8")
    one = doctor(repo).one("breaker-open")
    assert "no money" in one["message"]
    assert "2999" in one["message"]
    assert one["severity"] == "warning"


# --- the scheduler ---


@contextlib.contextmanager
def scheduler(repo: Repo) -> Iterator[None]:
    """Somebody holds the scheduler's lock."""
    lock = locks.take(repo.layout.scheduler_lock)
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


def test_a_scheduler_that_does_not_look_is_told(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "waits", TASK)
    with scheduler(repo):
        repo.layout.last_tick.write_text("2026-01-01T00:00:00.000Z\n", encoding="utf-8")
        assert doctor(repo).codes() == {"scheduler-silent"}
        repo.layout.last_tick.write_text("rubbish", encoding="utf-8")
        assert doctor(repo).codes() == set()
        repo.layout.last_tick.unlink()
        assert doctor(repo).codes() == {"scheduler-silent"}
    assert doctor(repo).codes() == {"scheduler-off"}


def test_what_a_running_scheduler_mends_itself_is_left_to_it(repo: Repo) -> None:
    healthy(repo)
    repo.layout.moving.mkdir()
    (repo.layout.moving / "INCOMING+on-its-way.md").write_text(TASK, encoding="utf-8")
    repo.layout.scheduler_pid.write_text("{}", encoding="utf-8")
    with scheduler(repo):
        repo.layout.last_tick.touch()
        before = snapshot(repo)
        assert doctor(repo, "--fix").fixed == []
        assert changed(before, snapshot(repo)) == set()


def test_an_attempt_without_its_supervisor(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "alone", TASK, state=State.CLAIMED)
    begun = attempts.begin(repo.layout, "alone", Opening("attempt", time.time(), role="implementer"), locked=True)
    assert begun.lock is not None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    gone = {"runner_pid": 2**22 + 1, "runner_start": 1, "agent_pid": None, "agent_start": None, "boot_id": boot}
    (begun.path / "pid").write_text(json.dumps(gone), encoding="utf-8")
    agent = subprocess.Popen(
        ["sleep", "60"], env={**repo.env, "OCTOPOID_ATTEMPT_DIR": str(begun.path)}, pass_fds=[begun.lock]
    )
    try:
        os.close(begun.lock)
        eventually(lambda: b"sleep" in Path(f"/proc/{agent.pid}/cmdline").read_bytes())
        one = doctor(repo).one("no-supervisor")
        assert str(agent.pid) in one["message"]
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait(5)


# --- the service ---


def test_a_service_that_could_start_nothing(repo: Repo) -> None:
    tools = repo.root.parent / "tools"
    tools.mkdir()
    (tools / "my-agent").write_text("#!/bin/sh\n", encoding="utf-8")
    (tools / "my-agent").chmod(0o755)
    healthy(repo, agents={"implementer": {"role": "implementer", "adapter": "command", "command": ["my-agent"]}})
    here = {"PATH": f"{tools}:{repo.env['PATH']}"}
    path = service.unit_file(repo.root, repo.env)
    path.parent.mkdir(parents=True)
    path.write_text(service.unit(service.Job(repo.root, (str(OCTOPOID),), "/usr/bin:/bin")), encoding="utf-8")
    assert doctor(repo, env=here).codes() == {"service-path"}
    path.write_text(service.unit(service.Job(repo.root, ("/gone/octopoid",), here["PATH"])), encoding="utf-8")
    assert doctor(repo, env=here).codes() == {"service-program"}
    path.write_text(service.unit(service.Job(repo.root, (str(OCTOPOID),), here["PATH"])), encoding="utf-8")
    assert doctor(repo, env=here).codes() == set()


# --- the repository ---


def test_a_repository_in_which_things_are_different(tmp_path: Path) -> None:
    origin = make_repo(tmp_path, "origin")
    git(origin, "commit", "-q", "--allow-empty", "-m", "Second")
    child = make_repo(tmp_path, "child")
    allow = ("-c", "protocol.file.allow=always")
    git(origin, *allow, "submodule", "--quiet", "add", f"file://{child.root}", "sub")
    (origin.root / ".gitattributes").write_text("*.bin filter=lfs\n", encoding="utf-8")
    git(origin, "add", ".gitattributes")
    git(origin, "commit", "-q", "-m", "Third")
    repo = Repo(tmp_path / "project", origin.env)
    git(origin, "clone", "-q", "--depth", "1", f"file://{origin.root}", repo.root)
    git(repo, "config", "commit.gpgsign", "true")
    git(repo, "config", "core.sparseCheckout", "true")
    healthy(repo, base="nowhere")
    (repo.layout.home / ".gitignore").write_text("/run/\n", encoding="utf-8")
    drop(repo, "tracked", TASK)
    git(repo, "add", "--force", ".octopoid/queue")
    before = snapshot(repo)
    seen = doctor(repo)
    wanted = {"shallow", "submodules", "lfs", "signing", "sparse"}
    wanted |= {"git-identity", "base-missing", "gitignore", "queue-tracked", "scheduler-off"}
    assert seen.codes() == wanted
    assert doctor(repo, "--fix").fixed == []
    assert changed(before, snapshot(repo)) == set()
    assert "git branch nowhere" in seen.one("base-missing")["fix"]
    assert "/queue" in seen.one("gitignore")["fix"]
    assert "--cached" in seen.one("queue-tracked")["fix"]


def test_a_gitignore_that_is_gone_is_written_again(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.home / ".gitignore").unlink()
    fixed = doctor(repo, "--fix")
    assert (fixed.repaired(), fixed.codes()) == ({"gitignore"}, set())
    assert git(repo, "status", "--porcelain", "--untracked-files=all", ".octopoid/queue") == ""


def test_a_parents_gitignore_is_as_good(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.home / ".gitignore").unlink()
    (repo.root / ".gitignore").write_text(".octopoid/\n", encoding="utf-8")
    assert doctor(repo).codes() == set()


def test_worktrees_inside_the_checkout_must_be_ignored(repo: Repo) -> None:
    healthy(repo, worktrees={"dir": "trees"})
    assert "/trees/" in doctor(repo).one("gitignore")["fix"]
    (repo.root / ".gitignore").write_text("/trees/\n", encoding="utf-8")
    assert doctor(repo).codes() == set()


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    repo = Repo(make_repo(tmp_path, "other").root.with_name("project"), make_env(tmp_path))
    repo.root.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "config", "user.name", "Ada")
    git(repo, "config", "user.email", "ada@example.org")
    healthy(repo)
    assert doctor(repo).codes() == {"no-commit"}
    git(repo, "config", "core.bare", "true")
    assert "bare" in doctor(repo).codes()


def make_env(place: Path) -> dict[str, str]:
    return dict(make_repo(place, "env").env)


def test_no_branch_at_all(repo: Repo) -> None:
    healthy(repo, base="")
    git(repo, "checkout", "-q", "--detach")
    git(repo, "branch", "-q", "-m", "main", "trunk")
    assert "base:" in doctor(repo).one("base-missing")["fix"]


# --- worktrees ---


def tree(repo: Repo, task: str) -> Path:
    """A worktree of ours, as an attempt makes it."""
    place = repo.layout.home / "worktrees" / task
    with contextlib.redirect_stdout(sys.stderr):
        worktrees.add(repo.root, place, git(repo, "rev-parse", "HEAD"))
    return place


def work(repo: Repo, place: Path) -> str:
    git(repo, "commit", "-q", "--allow-empty", "-m", "Work", at=place)
    return git(repo, "rev-parse", "HEAD", at=place)


def test_worktrees_in_order_are_no_finding(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "one", TASK, state=State.DONE)
    drop(repo, "two", TASK, state=State.CLAIMED)
    git(repo, "worktree", "add", "-q", repo.root.parent / "mine")
    tree(repo, "one")
    work(repo, tree(repo, "two"))
    assert doctor(repo).codes() == {"claimed-idle", "scheduler-off"}


def test_what_happened_to_worktrees(repo: Repo) -> None:
    healthy(repo)
    for task in ("linked", "strange", "deleted"):
        drop(repo, task, TASK, state=State.BLOCKED)
    for task in ("locked", "fresh-lock", "landed"):
        drop(repo, task, TASK, state=State.DONE)
    trees = {name: tree(repo, name) for name in ("linked", "strange", "deleted", "locked", "fresh-lock", "landed")}
    trees |= {name: tree(repo, name) for name in ("lost", "empty", "dirty", "ahead")}
    lock = git_dir(trees["locked"]) / "index.lock"
    lock.touch()
    age(lock)
    (git_dir(trees["fresh-lock"]) / "index.lock").touch()
    (trees["linked"] / ".git").unlink()
    (trees["strange"] / ".git").unlink()
    (trees["strange"] / ".git").mkdir()
    rescued = work(repo, trees["lost"])
    work(repo, trees["ahead"])
    (trees["dirty"] / "new.txt").write_text("not committed", encoding="utf-8")
    for name in ("deleted", "landed", "lost"):
        shutil.rmtree(trees[name])
    mine = repo.root.parent / "mine"
    git(repo, "worktree", "add", "-q", mine)
    shutil.rmtree(mine)
    (repo.layout.home / "worktrees/.aside-x-1").mkdir()
    (repo.layout.home / "worktrees/unknown").mkdir()
    before = snapshot(repo)

    seen = doctor(repo)
    assert changed(before, snapshot(repo)) == set()
    by_place = {Path(one["path"]).name: (one["code"], one["severity"]) for one in seen.findings}
    assert by_place == {
        "index.lock": ("stale-lock", "warning"),
        "linked": ("worktree-link", "warning"),
        "strange": ("worktree-link", "warning"),
        "deleted": ("worktree-gone", "info"),
        "landed": ("worktree-gone", "warning"),
        "lost": ("worktree-gone", "warning"),
        "empty": ("worktree-orphan", "info"),
        "dirty": ("worktree-orphan", "warning"),
        "ahead": ("worktree-orphan", "warning"),
        ".aside-x-1": ("worktree-aside", "info"),
        "unknown": ("worktree-unknown", "warning"),
    }
    assert f"keep the work: git branch rescued-lost {rescued}" in {one["fix"] for one in seen.findings}

    fixed = doctor(repo, "--fix")
    assert {Path(one["path"]).name for one in fixed.fixed} == {"index.lock", "linked", "landed"}
    assert git(repo, "rev-parse", "--show-toplevel", at=trees["linked"]) == str(trees["linked"])
    listed = git(repo, "worktree", "list", "--porcelain")
    assert "/landed\n" not in listed
    assert f"{mine}\n" in listed  # the user's own: theirs to prune
    for name in ("dirty", "ahead", "empty", "strange"):
        assert trees[name].is_dir()
    assert (trees["dirty"] / "new.txt").exists()
    after = snapshot(repo)
    assert doctor(repo, "--fix").fixed == []
    assert changed(after, snapshot(repo)) == set()

    git(repo, "branch", "rescued-lost", rescued)
    assert {Path(one["path"]).name for one in doctor(repo, "--fix").fixed} == {"lost"}


def test_a_repository_that_was_moved(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "one", TASK, state=State.BLOCKED)
    commit = work(repo, tree(repo, "one"))
    moved = Repo(repo.root.with_name("mo ved"), repo.env)
    repo.root.rename(moved.root)
    assert doctor(moved).one("worktree-link")["severity"] == "warning"
    fixed = doctor(moved, "--fix")
    assert (fixed.repaired(), fixed.codes()) == ({"worktree-link"}, set())
    place = moved.layout.home / "worktrees/one"
    assert git(moved, "rev-parse", "HEAD", at=place) == commit
    assert (git_dir(place) / MARK).exists()


def test_a_copy_of_a_repository_takes_nothing_from_the_first(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "one", TASK, state=State.BLOCKED)
    place = tree(repo, "one")
    copy = Repo(repo.root.with_name("copy"), repo.env)
    shutil.copytree(repo.root, copy.root, symlinks=True)
    before = snapshot(repo)
    assert doctor(copy).codes() == {"worktree-link"}
    assert doctor(copy, "--fix").fixed == []
    assert changed(before, snapshot(repo)) == set()
    assert git(repo, "rev-parse", "--show-toplevel", at=place) == str(place)


def test_a_squashed_task_is_known_to_be_safe(repo: Repo) -> None:
    """Its own commits are on no branch, what landed in their place is."""
    healthy(repo)
    drop(repo, "squashed", TASK, state=State.DONE)
    place = tree(repo, "squashed")
    candidate = work(repo, place)
    git(repo, "commit", "-q", "--allow-empty", "-m", "Squashed")
    result = git(repo, "rev-parse", "HEAD")
    submit = Outcome("attempt", "ok", False, "", "", 1.0, candidate=candidate, verb="submit", leaves="claimed")
    begun = attempts.begin(
        repo.layout, "squashed", Opening("attempt", 1.0), outcome=submit._replace(enters="provisional")
    )
    (begun.path / "pid").touch()
    attempts.mark_moved(repo.layout, "squashed", begun.number, "provisional")
    land = Outcome("landing", "ok", False, "", "", 2.0, verb="land", leaves="provisional", enters="done")
    opening = Opening("landing", 2.0, candidate=candidate, result_sha=result)
    begun = attempts.begin(repo.layout, "squashed", opening, outcome=land._replace(candidate=candidate))
    attempts.mark_moved(repo.layout, "squashed", begun.number, "done")
    shutil.rmtree(place)
    assert doctor(repo, "--fix").repaired() == {"worktree-gone"}


# --- the machine ---


def test_no_git_and_an_old_git(repo: Repo) -> None:
    healthy(repo)
    tools = repo.root.parent / "tools"
    tools.mkdir()
    assert doctor(repo, env={"PATH": str(tools)}).codes() == {"git-missing"}
    (tools / "git").write_text("#!/bin/sh\necho git version 2.30.1\n", encoding="utf-8")
    (tools / "git").chmod(0o755)
    assert doctor(repo, env={"PATH": f"{tools}:{repo.env['PATH']}"}).codes() == {"git-old"}


def test_versions() -> None:
    assert machine.old_python((3, 10, 9)) is not None
    assert machine.old_python((3, 11, 0)) is None
    assert machine.old_git((2, 37, 4)) is not None
    assert machine.old_git((2, 38, 0)) is None


def test_few_open_files(repo: Repo) -> None:
    healthy(repo)
    assert found(wrapped(repo, ["sh", "-c", 'ulimit -n 100; exec "$@"', "-"])).codes() == {"open-files"}


def wrapped(repo: Repo, argv: list[str], *words: str) -> Answer:
    """`octopoid doctor` started by another program."""
    done = subprocess.run(
        [*argv, str(OCTOPOID), "doctor", "--json", *words],
        cwd=repo.root,
        env=dict(repo.env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_disk_without_flock(repo: Repo) -> None:
    healthy(repo)
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    if shutil.which("strace") is None or subprocess.run([*trace, "true"], check=False).returncode:
        pytest.skip("strace cannot trace here")
    assert "flock" in found(wrapped(repo, trace)).codes()


def in_namespace(repo: Repo, script: str, *words: str) -> Found:
    """`doctor` where `script` has mounted something, which nobody else sees."""
    if os.geteuid() or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    return found(wrapped(repo, ["unshare", "-m", "sh", "-c", f'set -e; {script}; exec "$@"', "-"], *words))


def test_a_folder_on_another_disk(repo: Repo) -> None:
    healthy(repo)
    seen = in_namespace(repo, "mount -t tmpfs -o size=4m tmpfs .octopoid/queue/done")
    assert seen.one("other-device")["path"] == str(repo.layout.folder(State.DONE))


def test_a_disk_that_is_full(repo: Repo) -> None:
    healthy(repo)
    (repo.layout.home / "worktrees").mkdir()
    seen = in_namespace(repo, "mount -t tmpfs -o size=4m tmpfs .octopoid/worktrees")
    assert seen.codes() == {"disk-space"}


def test_a_queue_that_is_read_only(repo: Repo) -> None:
    healthy(repo)
    seen = in_namespace(
        repo, "mount --bind .octopoid/run .octopoid/run; mount -o remount,ro,bind .octopoid/run", "--fix"
    )
    assert seen.one("not-writable")["path"] == str(repo.layout.run)


def test_remote_file_systems() -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\nnas:/home /home nfs4 rw 0 0\n/dev/sdb /home/me/local\\040disk ext4 rw 0 0\n"
        "me@host: /home/me/sshfs fuse.sshfs rw 0 0\nbroken\n"
    )
    assert machine.remote_kind("/srv/project", mounts) == ""
    assert machine.remote_kind("/home/me/project", mounts) == "nfs4"
    assert machine.remote_kind("/home/me/local disk/project", mounts) == ""
    assert machine.remote_kind("/home/me/sshfs/project", mounts) == "fuse.sshfs"
    assert machine.remote_kind("/homeless", mounts) == ""


def test_devices() -> None:
    home, done = Path("/q"), Path("/q/done")
    assert queues.apart({home: 1, done: 1}, home) == []
    assert queues.apart({home: 1, done: 2}, home) == [done]


def test_what_cannot_be_checked_is_said(repo: Repo) -> None:
    """A git that fails in the middle: the check says so, the others go on."""
    healthy(repo)
    drop(repo, "bad", "---\nnope: 1\n---\n")
    tools = repo.root.parent / "tools"
    tools.mkdir()
    real = shutil.which("git", path=repo.env["PATH"])
    lines = f'#!/bin/sh\ncase "$*" in *ls-files*) echo broken >&2; exit 128;; esac\nexec {real} "$@"\n'
    (tools / "git").write_text(lines, encoding="utf-8")
    (tools / "git").chmod(0o755)
    seen = doctor(repo, env={"PATH": f"{tools}:{repo.env['PATH']}"})
    assert seen.codes() == {"unchecked", "invalid"}


# --- the page about it ---


CODES = {*RUINED, "policy", "policy-last-good", "breaker-open", "scheduler-silent", "no-supervisor", "no-queue"}


def test_every_code_is_explained_and_every_explained_code_exists() -> None:
    """Read from the source, so that a new code without a word about it fails."""
    folder = PROJECT / "octopoid/doctor"
    sources = [*folder.glob("*.py"), Path(command.__file__)]
    said = {word for path in sources for word in _codes(path.read_text(encoding="utf-8"))}
    page = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("`") >= 2}
    assert said >= CODES
    assert said <= explained, said - explained


def test_every_reason_of_why_is_explained() -> None:
    """The names of guards and of what a decision waits for, from their source."""
    source = "".join(
        (PROJECT / "octopoid" / name).read_text(encoding="utf-8") for name in ("guards.py", "policy.py", "gating.py")
    )
    reasons = set(re.findall(r'(?:waits=|Guard\()"([a-z ]+)"', source))
    assert {"subtasks", "paused", "breaker", "person", "turn"} <= reasons
    page = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("what a task can wait for")[2].partition("\n## ")[0]
    explained = {word for line in table.splitlines() for word in re.findall(r"`([^`]+)`", line.split(" | ")[0])}
    assert reasons <= explained, reasons - explained


def _codes(source: str) -> set[str]:
    words = {part.split('"')[1] for part in source.split("Finding(")[1:] if part.lstrip().startswith('"')}
    return words | ({"invalid", "evidence", "duplicate", "stray"} if "def _code(" in source else set())


def test_init_alone_is_almost_in_order(repo: Repo) -> None:
    """A new user's first look: the one thing that is missing is named."""
    init(repo)
    assert doctor(repo).codes() <= {"agent-program", "agent-env"}
