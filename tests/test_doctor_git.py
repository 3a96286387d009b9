"""`doctor`: the repository, the worktrees, and what has landed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from harness import Repo, drop, git, make_repo
from ruins import (
    TASK,
    age,
    changed,
    doctor,
    healthy,
    snapshot,
    tree,
    work,
)

from octopoid import attempts, look, worktrees
from octopoid.doctor import trees
from octopoid.doctor.finding import Case
from octopoid.gitfiles import MARK, git_dir
from octopoid.model import Opening, Outcome
from octopoid.states import State

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
    wanted |= {"untrusted"}  # it came by a clone
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
    assert doctor(repo).codes() == {"no-commit", "untrusted"}
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
    places = {name: tree(repo, name) for name in ("linked", "strange", "deleted", "locked", "fresh-lock", "landed")}
    places |= {name: tree(repo, name) for name in ("lost", "empty", "dirty", "ahead")}
    lock = git_dir(places["locked"]) / "index.lock"
    lock.touch()
    age(lock)
    (git_dir(places["fresh-lock"]) / "index.lock").touch()
    (places["linked"] / ".git").unlink()
    (places["strange"] / ".git").unlink()
    (places["strange"] / ".git").mkdir()
    rescued = work(repo, places["lost"])
    git(repo, "commit", "-q", "--allow-empty", "-m", "Ahead", at=places["ahead"])
    (places["dirty"] / "new.txt").write_text("not committed", encoding="utf-8")
    for name in ("deleted", "landed", "lost"):
        shutil.rmtree(places[name])
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
    assert {Path(one["path"]).name for one in fixed.fixed} == {"index.lock", "linked", "landed", "empty"}
    assert git(repo, "rev-parse", "--show-toplevel", at=places["linked"]) == str(places["linked"])
    listed = git(repo, "worktree", "list", "--porcelain")
    assert "/landed\n" not in listed
    assert f"{mine}\n" in listed  # the user's own: theirs to prune
    assert not places["empty"].exists()
    for name in ("dirty", "ahead", "strange"):
        assert places[name].is_dir()
    assert (places["dirty"] / "new.txt").exists()
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


def test_what_agents_and_kills_leave_in_worktrees(repo: Repo) -> None:
    healthy(repo)
    for task in ("switched", "rebasing", "half"):
        drop(repo, task, TASK, state=State.BLOCKED)
    places = {name: tree(repo, name) for name in ("switched", "rebasing", "half", "unmerged")}
    git(repo, "checkout", "-q", "-b", "agents-own", at=places["switched"])
    commit = work(repo, places["switched"])
    (git_dir(places["rebasing"]) / "rebase-merge").mkdir()
    (git_dir(places["half"]) / MARK).rename(git_dir(places["half"]) / worktrees.HALF)
    (git_dir(places["unmerged"]) / "MERGE_HEAD").write_text(commit, encoding="utf-8")  # of a task that is gone
    seen = doctor(repo)
    found_there = {(one["code"], Path(one["path"]).name) for one in seen.findings}
    assert found_there == {
        ("worktree-branch", "switched"),
        ("worktree-busy", "rebasing"),
        ("worktree-half", "half"),
        ("worktree-busy", "unmerged"),
        ("worktree-orphan", "unmerged"),
    }
    assert "agents-own" in seen.one("worktree-branch")["message"]
    fixed = doctor(repo, "--fix")
    assert fixed.repaired() == {"worktree-branch"}
    assert doctor(repo, "--fix").fixed == []
    assert git(repo, "rev-parse", "HEAD", at=places["switched"]) == commit == git(repo, "rev-parse", "agents-own")
    assert git(repo, "symbolic-ref", "-q", "HEAD", at=places["switched"], ok=[1]) == ""
    assert all(place.is_dir() for place in places.values())


@pytest.mark.parametrize("cure", [("doctor", "--fix"), ("clean",), ("run", "--once")], ids=" ".join)
def test_a_removal_that_a_kill_cut_short_is_finished(repo: Repo, cure: tuple[str, ...]) -> None:
    """A `clean` that died in the middle left folders that nobody took for what they were."""
    healthy(repo)
    places = {name: tree(repo, name) for name in ("begun", "emptied", "gone", "needed")}
    drop(repo, "begun", TASK, state=State.DONE)
    drop(repo, "needed", TASK, state=State.BLOCKED)
    for place in places.values():
        (git_dir(place) / worktrees.REMOVED).touch()
    (places["begun"] / "README.md").unlink()
    shutil.rmtree(places["emptied"])
    places["emptied"].mkdir()
    shutil.rmtree(places["gone"])
    trash = repo.root / ".git/octopoid/removed-0123456789ab"
    trash.mkdir()
    (trash / "HEAD").write_text("half of one", encoding="utf-8")
    seen = doctor(repo)
    there = {(one["code"], Path(one["path"]).name) for one in seen.findings if one["code"].startswith("worktree")}
    removals = {("worktree-removal", name) for name in ("begun", "emptied", "gone", trash.name)}
    assert there == {*removals, ("worktree-half", "needed")}
    assert "would remove   .octopoid/worktrees/begun" in repo.octopoid("clean", "--dry-run").out
    assert places["begun"].exists()
    repo.octopoid(*cure, ok=None)
    assert not any(path.exists() for path in (places["begun"], places["emptied"], places["gone"], trash))
    assert places["needed"].exists(), "it is made anew when it is needed"
    listed = git(repo, "worktree", "list", "--porcelain")
    assert [line.rpartition("/")[2] for line in listed.splitlines() if line.startswith("worktree ")] == [
        repo.root.name,
        "needed",
    ]
    assert not any(one["code"] == "worktree-removal" for one in doctor(repo).findings)


def test_what_an_agent_says_in_its_git_directory_removes_nothing_of_others(repo: Repo) -> None:
    """It can write there, in its sandbox, too: that another folder is its worktree, and is being removed."""
    healthy(repo)
    agents, other, precious = tree(repo, "agents"), tree(repo, "other"), repo.root.parent / "precious"
    work(repo, other)
    precious.mkdir()
    (precious / "letter").write_text("dear", encoding="utf-8")
    gitdir = git_dir(agents)
    (gitdir / worktrees.REMOVED).touch()
    for top in (precious, other, repo.root, repo.layout.home / "worktrees"):
        (gitdir / "gitdir").write_text(f"{top}/.git\n", encoding="utf-8")
        for verb in (("doctor", "--fix"), ("clean",), ("run", "--once")):
            repo.octopoid(*verb, ok=None)
        assert (precious / "letter").exists() and (other / "README.md").exists() and repo.layout.agents_yaml.exists()


def test_finished_worktrees_that_take_much_room(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "large", TASK, state=State.DONE)
    tree(repo, "large")
    assert doctor(repo).codes() == set()
    seen = look.Observer(repo.layout).look()
    facts = Case(repo.layout, repo.env, 1.0, seen, None, (), False, None, False, repo.layout.home / "worktrees")
    assert [one.code for one in trees.check_room(facts, 1)] == ["worktrees-large"]  # a GiB is too much for a test


# --- what has landed ---


def landing(repo: Repo, task: str, sha: str, *, closed: bool = True, candidate: str = "") -> None:
    """The evidence of a landing, as octopoid writes it."""
    opening = Opening("landing", 1.0, base="main", candidate=candidate or sha, onto=sha, result_sha=sha)
    end = Outcome("landing", "ok", False, "", "", 2.0, verb="land", leaves="provisional", enters="done")
    begun = attempts.begin(repo.layout, task, opening, outcome=end if closed else None)
    (begun.path / "pid").touch()
    if closed:
        attempts.mark_moved(repo.layout, task, begun.number, "done")


def merged(repo: Repo, task: str) -> str:
    git(repo, "commit", "-q", "--allow-empty", "-m", f"Merge {task}\n\nOctopoid-Task: {task}\nOctopoid-Attempt: 1")
    return git(repo, "rev-parse", "HEAD")


def test_a_base_that_was_moved_back_lost_what_had_landed(repo: Repo) -> None:
    healthy(repo)
    for task in ("kept", "lost", "seen", "rewritten"):
        drop(repo, task, TASK, state=State.ARCHIVED if task == "seen" else State.DONE)
        landing(repo, task, merged(repo, task))
        if task == "kept":
            kept = git(repo, "rev-parse", "HEAD")
    drop(repo, "by-hand", TASK, state=State.DONE)  # a person's word: there is nothing to compare
    assert doctor(repo).codes() == set()
    lost = git(repo, "rev-parse", "HEAD~2")
    git(repo, "reset", "-q", "--hard", kept)
    merged(repo, "rewritten")
    seen = doctor(repo)
    assert seen.codes() == {"landing-lost"}
    assert seen.one("landing-lost")["path"] == str(repo.layout.task_file(State.DONE, "lost"))
    assert f"git branch rescued-lost {lost}" in seen.one("landing-lost")["fix"]


def test_work_in_the_base_whose_task_is_elsewhere(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "cut-short", TASK, state=State.PROVISIONAL)
    landing(repo, "cut-short", merged(repo, "cut-short"), closed=False)
    drop(repo, "restored", TASK)
    merged(repo, "restored")
    drop(repo, "reopened", TASK)
    landing(repo, "reopened", merged(repo, "reopened"))
    attempts.begin(repo.layout, "reopened", Opening("reopen", 3.0, by="person", to="incoming"))
    found_there = {Path(one["path"]).stem: one["severity"] for one in doctor(repo).of("landing-unknown")}
    assert found_there == {"cut-short": "info", "restored": "warning"}


def test_submitted_work_that_git_would_drop_is_kept(repo: Repo) -> None:
    healthy(repo)
    submit = Outcome("attempt", "ok", False, "", "", 1.0, verb="submit", leaves="claimed", enters="provisional")
    shas = {}
    for task in ("loose", "gone"):
        drop(repo, task, TASK, state=State.PROVISIONAL)
        shas[task] = work(repo, tree(repo, task)) if task == "loose" else "1" * 40
        begun = attempts.begin(
            repo.layout, task, Opening("attempt", 1.0), outcome=submit._replace(candidate=shas[task])
        )
        (begun.path / "pid").touch()
        attempts.mark_moved(repo.layout, task, begun.number, "provisional")
    assert doctor(repo).codes() == {"candidate-gone", "scheduler-off"}
    # as after checks of a squashed result: nothing but a reflog knows the candidate
    git(repo, "checkout", "-q", "--detach", "main", at=repo.layout.home / "worktrees/loose")
    seen = doctor(repo)
    assert (seen.one("candidate-loose")["severity"], seen.one("candidate-gone")["severity"]) == ("warning", "error")
    assert doctor(repo, "--fix").repaired() == {"candidate-loose"}
    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    assert git(repo, "cat-file", "-t", shas["loose"]) == "commit"
    assert doctor(repo, "--fix").fixed == []


def test_refs_of_tasks_that_are_over(repo: Repo) -> None:
    healthy(repo)
    drop(repo, "over", TASK, state=State.DONE)
    drop(repo, "going-on", TASK, state=State.PROVISIONAL)
    git(repo, "checkout", "-q", "--detach")
    loose = work(repo, repo.root)
    git(repo, "checkout", "-q", "main")
    for task, sha in (("over", "main"), ("going-on", loose), ("cancelled", loose)):
        git(repo, "update-ref", f"refs/octopoid/{task}", sha)
    seen = doctor(repo)
    assert {Path(one["path"]).name for one in seen.of("ref-left")} == {"over", "cancelled"}
    assert f"git branch rescued-cancelled {loose}" in {
        one["fix"].split("; ")[0].split(": ")[-1] for one in seen.of("ref-left")
    }
    assert doctor(repo, "--fix").repaired() == {"ref-left"}
    assert git(repo, "for-each-ref", "--format=%(refname)", "refs/octopoid").split() == [
        "refs/octopoid/cancelled",
        "refs/octopoid/going-on",
    ]
    assert doctor(repo, "--fix").fixed == []


# --- settings and locks of the user's ---


def test_settings_that_an_agent_changed(repo: Repo) -> None:
    healthy(repo)
    git(repo, "config", "core.hooksPath", ".octopoid/worktrees/evil/hooks")
    git(repo, "config", "gc.pruneExpire", "now")
    git(repo, "config", "core.worktree", repo.root.parent / "home")
    seen = doctor(repo)
    told = {(one["severity"], one["fix"].split(" (")[0]) for one in seen.of("git-setting")}
    assert told == {
        ("error", "git config --unset core.worktree"),
        ("error", "git config --unset core.hooksPath"),
        ("warning", "git config --unset gc.pruneexpire"),
    }
    for key in ("core.worktree", "core.hooksPath", "gc.pruneExpire"):
        git(repo, "config", "--file", repo.root / ".git/config", "--unset", key)
    git(repo, "config", "core.hooksPath", ".githooks")
    assert doctor(repo).codes() == set()


def test_a_lock_that_a_git_of_the_user_left_is_theirs(repo: Repo) -> None:
    healthy(repo)
    lock = repo.root / ".git/index.lock"
    lock.touch()
    assert doctor(repo).codes() == set()  # somebody works there just now
    age(lock)
    one = doctor(repo).one("own-lock")
    assert (one["severity"], one["path"]) == ("warning", str(lock))
    assert doctor(repo, "--fix").fixed == []
    assert lock.exists()


def test_a_repository_that_git_does_not_take_for_one(repo: Repo) -> None:
    healthy(repo)
    (repo.root / ".git/HEAD").unlink()
    seen = doctor(repo)
    assert seen.one("git-broken")["severity"] == "error"
    assert seen.answer.status == 1
