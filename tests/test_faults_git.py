"""Faults of git, branches and worktrees, through the installed program: what agents and accidents do to a repository.

The oracle (`sound`): every task in one folder, the books balance, nothing landed twice, the user's checkout as it was
but for landing, and no program of an agent's was started by a git of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import books
import pytest
from harness import OCTOPOID, Repo, commit, drop, eventually, git, landed, places, script, state_of

from octopoid import confined, gitfiles, intrusions
from octopoid import git as ours
from octopoid.errors import Contained
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]
DONE, BLOCKED, PROVISIONAL = State.DONE, State.BLOCKED, State.PROVISIONAL
SECRET = "correct-horse-battery"
GITDIR = 'g="$(git rev-parse --absolute-git-dir)"; '


def every(*attempts: list[Any]) -> dict[str, Any]:
    return {"tasks": {"default": {"implementer": list(attempts)}}}


def sh(*lines: str) -> dict[str, str]:
    return {"run": "\n".join(("set -e", *lines))}


def run(repo: Repo, *status: int, env: dict[str, str] | None = None) -> str:
    return repo.octopoid("run", "--until-empty", ok=status or (0,), env=env).err


def needs(repo: Repo, task: str) -> str:
    """What `status` tells the person about `task`."""
    found = repo.octopoid("status", "--json").json()["needs_you"]
    return next((f"{one['reason']}: {one['detail']}" for one in found if one["task"] == task), "")


def canary(repo: Repo) -> Path:
    return repo.root.parent / "canary"


def evil(repo: Repo, where: str = "evil") -> str:
    """Lines of shell that make a repository of the agent's own, whose configuration starts a program."""
    touch = f"touch {canary(repo)}"
    return "\n".join(
        (
            f"mkdir -p {where}/hooks; git init -q {where}; cd {where}",
            "git config user.name e; git config user.email e@e; echo '*.txt filter=evil' > .gitattributes",
            "echo one > f.txt; git add .; git commit -q -m e; echo two > f.txt",
            f"for h in post-checkout reference-transaction pre-commit post-index-change; do echo '#!/bin/sh\n{touch}'"
            " > .git/hooks/$h; chmod +x .git/hooks/$h; done",
            f"git config core.fsmonitor '{touch}; false'; git config filter.evil.clean '{touch}; cat'",
            f"git config filter.evil.smudge '{touch}; cat'; rm -f {canary(repo)}; cd - >/dev/null",
        )
    )


def sound(repo: Repo, *tasks: str, branches: tuple[str, ...] = ("main",)) -> None:
    assert not canary(repo).exists(), "a git of ours started an agent's program"
    for task in tasks:
        assert len(places(repo, task)) == 1, task
    assert len(set(landed(repo))) == len(landed(repo)), "landed twice"
    assert books.check(repo) == []
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(repo, "status", "--porcelain", "--ignore-submodules=dirty", "--", ".", ":(exclude).octopoid") == ""
    assert tuple(git(repo, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()) == branches
    doctor = repo.octopoid("doctor", "--json", ok=(0, 1))
    assert doctor.status == 0, doctor.out


# --- what agents do in their worktree ---

Deed = tuple[list[Any], State, str]


def deeds(repo: Repo) -> dict[str, Deed]:
    """Task → what its agent does at its first attempt (then WRITE), where the task ends, and what is said of it."""
    outside = repo.root.parent / "outside"
    place = "${OCTOPOID_TASK_ID}"
    return {
        "rewound": ([sh("git reset -q --hard HEAD~1"), *WRITE, {"commit": "Below the start"}], DONE, ""),
        "amended": ([*WRITE, {"commit": "One"}, sh("git commit -q --amend -m Two")], DONE, ""),
        "branched": ([sh("git checkout -q -b mine"), *WRITE, {"commit": "On a branch"}], DONE, ""),
        "to-main": ([sh("! git checkout -q main 2>/dev/null"), *WRITE], DONE, ""),
        "elsewhere": ([sh("git checkout -q --detach HEAD~1"), *WRITE], DONE, ""),
        "orphan": (
            [sh("git checkout -q --orphan alone"), *WRITE, {"commit": "Alone"}],
            BLOCKED,
            "no history in common",
        ),
        "merging": (
            [
                sh("git checkout -q -b a HEAD; echo a > c; git add c; git commit -q -m a"),
                sh("git checkout -q -b b HEAD~1; echo b > c; git add c; git commit -q -m b; ! git merge -q a"),
            ],
            BLOCKED,
            "could not be committed",
        ),
        "bisecting": ([*WRITE, {"commit": "x"}, sh("git bisect start -q")], BLOCKED, "could not be committed"),
        "stashed": ([*WRITE, sh("git stash -q -u")], BLOCKED, "no changes"),
        "collected": ([*WRITE, {"commit": "Then gc"}, sh("git gc -q --prune=now")], DONE, ""),
        "no-refs": (
            [
                *WRITE,
                sh("for r in $(git for-each-ref --format='%(refname)' refs/octopoid); do git update-ref -d $r; done"),
            ],
            DONE,
            "",
        ),
        "no-git": ([*WRITE, sh("rm .git")], DONE, ""),
        "no-folder": ([sh('rm -rf "$PWD"')], DONE, ""),
        "own-git": ([sh("rm .git", evil(repo, "x"), "mv x/.git .git"), *WRITE], DONE, ""),
        "users-git": ([sh(f"echo 'gitdir: {repo.root}/.git' > .git"), *WRITE], DONE, ""),
        "linked-git": (
            [sh(f"{evil(repo, str(repo.root.parent / 'e2'))}; rm .git; ln -s {repo.root.parent}/e2/.git .git")],
            DONE,
            "",
        ),
        "commondir": (
            [
                sh(
                    GITDIR + evil(repo, str(repo.root.parent / "e3")), f"echo {repo.root.parent}/e3/.git > $g/commondir"
                ),
                *WRITE,
            ],
            DONE,
            "",
        ),
        "settings": (
            [sh(GITDIR + f"printf '[core]\\n\\tfsmonitor = touch {canary(repo)}\\n' > $g/config.worktree"), *WRITE],
            DONE,
            "",
        ),
        "nested": (
            [
                sh(evil(repo, "nest"), "git update-index --add --cacheinfo 160000,$(cat nest/.git/refs/heads/m*),nest"),
                *WRITE,
            ],
            DONE,
            "",
        ),
        "leak": ([{"write": {"path": "conf.py", "text": f"KEY = '{SECRET}'\n"}}], BLOCKED, "conf.py (SERVICE_TOKEN)"),
        "leak-once": (
            [{"write": {"path": "c.py", "text": SECRET}}, {"commit": "In"}, {"delete": "c.py"}, *WRITE],
            BLOCKED,
            "c.py (SERVICE_TOKEN)",
        ),
        "dot-git": (
            [
                sh(
                    't=$(printf "100644 blob $(git hash-object -w README.md)\\tx\\n" | git mktree)',
                    'r=$( (git ls-tree HEAD; printf "040000 tree $t\\t.git\\n") | git mktree)',
                    "git reset -q --soft $(git commit-tree -p HEAD -m x $r)",
                )
            ],
            BLOCKED,
            "cannot be checked out",
        ),
        "case": (
            [sh("mkdir DIR; cp dir/b.txt DIR/b.txt; git -c core.ignorecase=false add DIR; git commit -q -m case")],
            BLOCKED,
            "cannot be checked out",
        ),
        "case-and-more": (
            [
                sh(
                    "mkdir DIR; cp dir/b.txt DIR/b.txt; git -c core.ignorecase=false add DIR; git commit -q -m case",
                    "touch -d '1 hour ago' DIR/b.txt; echo more > more.txt",  # git looks at it again, and adds nothing
                )
            ],
            BLOCKED,
            "cannot be checked out",
        ),
        "link-out": (
            [sh(f"ln -s {outside} {place}.d; echo x > {place}.txt", f"rm -r swap; ln -s {outside} swap")],
            DONE,
            "",
        ),
    }


def test_whatever_an_agent_does_to_git_stays_in_its_worktree(repo: Repo) -> None:
    """FAULTS 19, 20, E4: two dozen agents at once, one base, one repository."""
    commit(repo, {"dir/b.txt": "b\n", "swap/inner.txt": "inner\n"}, "Second")
    git(repo, "config", "core.ignorecase", "true")
    outside = repo.root.parent / "outside"
    outside.mkdir()
    table = deeds(repo)
    script(
        repo,
        {"tasks": {name: {"implementer": [deed, WRITE]} for name, (deed, _, _) in table.items()}},
        limits={"attempts": 1},
        max_agents=4,
        agents={
            "implementer": {
                "role": "implementer",
                "adapter": "scripted",
                "instances": 4,
                "script": ".octopoid/scripted.json",
                "env": ["SERVICE_TOKEN"],
            }
        },
    )
    start = git(repo, "rev-parse", "main")
    for name in table:
        drop(repo, name, f"# {name}\n")
    run(repo, 6, env={"SERVICE_TOKEN": SECRET})
    wrong = {}
    for name, (_, state, words) in table.items():
        if state_of(repo, name) is not state or words not in needs(repo, name):
            wrong[name] = (state_of(repo, name), needs(repo, name))
    assert wrong == {}
    assert git(repo, "merge-base", start, "main") == start
    assert list(outside.iterdir()) == []
    assert sorted(landed(repo)) == sorted(name for name, (_, state, _) in table.items() if state is DONE)
    left = (
        "a",
        "alone",
        "b",
        "main",
        "mine",
    )  # branches that agents made are theirs to explain, and nobody else's to remove
    sound(repo, *table, branches=left)
    said = [path for path in repo.layout.home.rglob("*") if path.is_file() and "worktrees" not in path.parts]
    told = [path for path in said if SECRET.encode() in path.read_bytes() and path.name not in ("scripted.json",)]
    assert told == [], "the secret is in no evidence"
    assert git(repo, "stash", "list") != "", "what was stashed is there"


# --- the base branch ---


def test_an_agent_that_moves_the_base_is_told_on_and_nothing_lands_there(repo: Repo) -> None:
    """It shares the repository, so it can; what it put there nobody has judged (invariant 7)."""
    go = repo.root.parent / "go"
    theft = [*WRITE, {"commit": "Unjudged"}, sh("git update-ref refs/heads/main HEAD")]
    tasks = {"thief": {"implementer": [theft, WRITE]}, "honest": {"implementer": [[{"wait_for": str(go)}, *WRITE]]}}
    script(repo, {"tasks": tasks})
    before = git(repo, "rev-parse", "main")
    drop(repo, "thief", "# Thief\n")
    drop(repo, "honest", "# Honest\n")
    with repo.background("run", "--until-empty") as daemon:
        eventually(lambda: state_of(repo, "thief") is BLOCKED, 30, "the theft was not noticed")
        go.touch()
        assert daemon.process.wait(30) == 6
    after = git(repo, "rev-parse", "main")
    assert f"main was moved from {before[:12]} to {after[:12]}" in needs(repo, "thief")
    assert state_of(repo, "honest") is PROVISIONAL and landed(repo) == ()
    assert "nothing lands there" in needs(repo, "thief")
    assert "moved by the agent of thief" in repo.octopoid("why", "honest").out
    git(repo, "update-ref", "refs/heads/main", before)  # the person decides: it is not to stay
    repo.octopoid("retry", "thief")
    run(repo)
    assert sorted(landed(repo)) == ["honest", "thief"]
    sound(repo, "thief", "honest")


def test_what_was_taken_off_the_base_does_not_come_back_with_old_work(repo: Repo) -> None:
    """FAULTS 20: a forced push, an amend or a reset while work is judged. Only its own commits are moved over."""
    gone = commit(repo, {"secret.txt": "should not be public\n"}, "A mistake")
    move = sh("git rebase -q --onto main " + gone)
    script(repo, every([*WRITE, {"commit": "Work"}], [move]), gates=["checks", "human"])
    drop(repo, "old", "# Old\n")
    run(repo, 6)
    assert state_of(repo, "old") is PROVISIONAL
    git(repo, "reset", "-q", "--hard", "HEAD~1")
    repo.octopoid("approve", "old")
    run(repo, 6)
    prompts = [one.read_text() for one in repo.layout.entries("old").glob("*/prompt.md")]
    assert any("was rewritten" in one and "rebase --onto" in one and gone in one for one in prompts)
    repo.octopoid("approve", "old")
    run(repo)
    assert landed(repo) == ("old",) and not (repo.root / "secret.txt").exists()
    assert git(repo, "merge-base", "--is-ancestor", gone, "main", ok=(1,)) == ""
    sound(repo, "old")


def test_a_base_that_is_renamed_away_is_waited_for(repo: Repo) -> None:
    script(repo, every(WRITE), gates=["checks", "human"])
    drop(repo, "renamed", "# Renamed\n")
    run(repo, 6)
    git(repo, "branch", "-m", "main", "trunk")
    repo.octopoid("approve", "renamed")
    run(repo, 6)
    assert state_of(repo, "renamed") is PROVISIONAL
    assert "main" in repo.octopoid("why", "renamed").out
    assert "base-missing" in repo.octopoid("doctor", "--json", ok=(1,)).out
    git(repo, "branch", "-m", "trunk", "main")
    run(repo)
    assert landed(repo) == ("renamed",)
    sound(repo, "renamed")


def test_many_command_lines_land_one_task_once(repo: Repo) -> None:
    """FAULTS 15, E4: everybody says yes and looks at once."""
    script(repo, every(WRITE), gates=["checks", "human"])
    for name in ("one", "two"):
        drop(repo, name, f"# {name}\n")
    run(repo, 6)
    argv = [["approve", "one"], ["approve", "two"], ["run", "--once"]] * 2
    going = [
        subprocess.Popen(
            [OCTOPOID, *one], cwd=repo.root, env=repo.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for one in argv
    ]
    told = [(one.communicate(timeout=60)[0].decode(), one.returncode) for one in going]
    assert all(status in (0, 1, 5) and "Traceback" not in text for text, status in told), told
    run(repo)
    assert sorted(landed(repo)) == ["one", "two"]
    sound(repo, "one", "two")


# --- locks ---


def test_locks_that_somebody_left_behind(repo: Repo) -> None:
    """FAULTS 18: those of the user's repository are never removed; in a worktree of ours they go with their owner."""
    script(
        repo, every([*WRITE, sh(GITDIR + "touch $g/index.lock $g/HEAD.lock; mkdir -p $g/refs; touch $g/refs/x.lock")])
    )
    theirs = [repo.root / ".git" / name for name in ("index.lock", "refs/heads/main.lock")]
    idle = [repo.root / ".git" / name for name in ("packed-refs.lock", "shallow.lock", "config.lock")]
    for one in (*theirs, *idle):
        one.touch()
    drop(repo, "locked", "# Locked\n")
    run(repo, 6)
    for lock in theirs:
        assert state_of(repo, "locked") is PROVISIONAL and lock.exists()
        assert "lock" in needs(repo, "locked"), repo.octopoid("status").out
        lock.unlink()
        if lock is not theirs[-1]:
            run(repo, 6)
    run(repo)
    assert landed(repo) == ("locked",) and all(one.exists() for one in idle)
    for one in idle:
        one.unlink()
    repo.octopoid("run", "--once")
    sound(repo, "locked")
    assert not list((repo.root / ".git/worktrees").rglob("*.lock"))


# --- pieces ---


def test_a_pipe_in_gits_folder_is_not_waited_for(repo: Repo) -> None:
    """To open one waits until somebody writes. git would wait, too, so nothing is asked of it there."""
    place = repo.layout.home / "worktrees/piped"
    git(repo, "worktree", "add", "-q", "--detach", place)
    gitdir = confined.site(repo.root, place)
    for name in ("index", "HEAD"):
        kept = (gitdir / name).read_bytes()
        (gitdir / name).unlink()
        os.mkfifo(gitdir / name)
        assert gitfiles.line(gitdir / name) == ""
        assert [one.path for one in ours.checkouts(repo.root, "main")] == [repo.root]
        with pytest.raises(Contained):
            confined.run(repo.root, place, "status")
        (gitdir / name).unlink()
        (gitdir / name).write_bytes(kept)


def test_a_worktree_without_our_mark_is_ours_by_its_place(repo: Repo) -> None:
    """An agent takes the mark away, goes to the base and puts its own repository there: no git of ours runs in it."""
    script(repo, every(WRITE))
    place = repo.layout.home / "worktrees/unmarked"
    git(repo, "worktree", "add", "-q", "--detach", place)
    git(repo, "checkout", "-q", "--ignore-other-worktrees", "main", at=place)
    (place / ".git").unlink()
    subprocess.run(["sh", "-e", "-c", f"{evil(repo, 'x')}\nmv x/.git .git"], cwd=place, env=repo.env, check=True)
    drop(repo, "lands", "# Lands\n")
    run(repo)
    assert landed(repo) == ("lands",)
    shutil.rmtree(place)
    git(repo, "worktree", "prune")
    sound(repo, "lands")


def test_settings_of_a_worktree_of_the_users_kind_are_allowed(repo: Repo) -> None:
    git(repo, "config", "extensions.worktreeConfig", "true")
    git(repo, "config", "--worktree", "color.ui", "never")
    place = repo.layout.home / "worktrees/set"
    git(repo, "worktree", "add", "-q", "--detach", place)
    git(repo, "sparse-checkout", "set", "--no-cone", "/*", at=place)
    (place / "README.md").write_text("changed\n")
    assert confined.uncommitted(repo.root, place) == ["README.md"]
    git(repo, "config", "--worktree", "core.pager", "evil", at=place)
    with pytest.raises(Contained, match=r"core\.pager"):
        confined.uncommitted(repo.root, place)


def test_what_the_base_holds_already_is_no_leak(repo: Repo) -> None:
    base = commit(repo, {"tests.py": f"KEY = {SECRET!r}\n"})
    head = commit(repo, {"tests.py": f"KEY = {SECRET!r}\n# more\n", "new.py": "x\n"})
    secrets = {"A_KEY": SECRET, "SHORT_KEY": "x"}
    assert intrusions.leaks(repo.root, base, head, ["tests.py", "new.py"], secrets) == ()
    other = {"A_KEY": "another-long-value\nwith lines"}
    named = commit(repo, {"x.py": "'another-long-value'\n"}, "says another-long-value")
    found = intrusions.leaks(repo.root, head, named, ["x.py"], other)
    assert found == ("x.py (A_KEY)", "a commit message (A_KEY)")


def test_replaced_objects_do_not_deceive(repo: Repo) -> None:
    """refs/replace shows another commit in its place; what would land is what is really there."""
    real, other = git(repo, "rev-parse", "HEAD"), commit(repo, {"x": "x\n"})
    tree = ours.tree_of(repo.root, real)
    git(repo, "replace", real, other, ok=(0, 255))
    assert ours.run(repo.root, "rev-parse", f"{real}^{{tree}}").out.strip() == tree
