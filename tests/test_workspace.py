"""A task's worktree: made, proven, kept, reused, collected from, restored, never mistaken for the user's checkout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Repo, commit, git

from octopoid import git as ours
from octopoid import workspace, worktrees
from octopoid.errors import Contained
from octopoid.gitfiles import MARK, going_on
from octopoid.workspace import BROKEN, FAILED, OK, TROUBLE


class Place:
    """A worktree of a task, with the steps as the runner calls them: keyword arguments that are plain JSON."""

    def __init__(self, repo: Repo, task: str) -> None:
        self.repo, self.task = repo, task
        self.path = repo.layout.home / "worktrees" / task
        self.facts_file = repo.root.parent / f"facts-{task}.json"
        self.result = repo.root.parent / f"result-{task}.json"
        self.base = git(repo, "rev-parse", "main")
        self._common = {"root": str(repo.root), "worktree": str(self.path)}

    def prepare(self, reuse: Place | None = None, base: str = "", include: bool = False) -> int:
        return workspace.prepare(
            **self._common,
            base_sha=base or self.base,
            reuse=str(reuse.path) if reuse else "",
            facts=str(self.facts_file),
            include=include,
        )

    def collect(self, commit: bool = True) -> int:
        return workspace.collect(
            **self._common,
            base_sha=self.base,
            facts=str(self.facts_file),
            result=str(self.result),
            message="Add a thing\n\nWhy.",
            commit=commit,
            task=self.task,
            attempt="2",
        )

    def check_out(self, commit: str, clean: bool = True) -> int:
        return workspace.check_out(**self._common, commit=commit, clean=clean)

    def restore(self, commit: str) -> int:
        return workspace.restore(**self._common, commit=commit, facts=str(self.facts_file))

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.facts_file.read_text())
        return found

    def git(self, *args: str | Path, ok: tuple[int, ...] = (0,)) -> str:
        return git(self.repo, *args, at=self.path, ok=ok)

    def write(self, name: str, text: str = "x\n") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, name: str, text: str = "x\n") -> str:
        self.write(name, text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"Add {name}")
        return self.git("rev-parse", "HEAD")

    @property
    def gitdir(self) -> Path:
        return worktrees.site(self.repo.root, self.path)

    def proven_clean(self, at: str) -> bool:
        return self.git("rev-parse", "HEAD") == at and self.git("status", "--porcelain") == ""


def snapshot(repo: Repo) -> tuple[object, ...]:
    """The user's checkout: what an agent's steps must never change."""
    content = {
        path: path.read_bytes()
        for path in repo.root.rglob("*")
        if path.is_file() and not {".git", ".octopoid"} & set(path.relative_to(repo.root).parts)
    }
    state = git(repo, "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--ignored")
    return content, state, git(repo, "for-each-ref"), (repo.root / ".git/HEAD").read_bytes()


@pytest.fixture(autouse=True)
def untouched(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Invariant 6 for every test here: the user's checkout, unsaved work and all, is the same before and after."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "TZ"):
        monkeypatch.setenv(name, repo.env[name])
    commit(repo, {"a.txt": "a\n", "dir/b.txt": "b\n", ".gitignore": "*.log\n.env*\nnode_modules/\n.octopoid/\n"})
    (repo.root / "README.md").write_text("unsaved\n")
    (repo.root / "staged").write_text("staged\n")
    (repo.root / "untracked").write_text("mine\n")
    git(repo, "add", "staged")
    (repo.root / "x.log").write_text("ignored\n")
    repo.layout.run.mkdir(parents=True)
    repo.layout.last_tick.touch()
    before = snapshot(repo)
    yield
    assert snapshot(repo) == before


@pytest.fixture
def place(repo: Repo) -> Place:
    return Place(repo, "task-1")


@pytest.fixture
def ready(place: Place) -> Place:
    assert place.prepare() == OK
    return place


def hook(repo: Repo, name: str, text: str) -> None:
    path = repo.root / ".git/hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# --- prepare ---


def test_a_new_worktree_is_detached_at_the_base(repo: Repo, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert place.prepare() == OK
    assert place.facts == {"start_sha": place.base, "fresh": True, "how": "added"}
    assert place.proven_clean(place.base)
    assert place.git("symbolic-ref", "-q", "HEAD", ok=(1,)) == ""
    assert place.git("rev-parse", "--show-toplevel") == str(place.path)
    assert "added" in capfd.readouterr().out


def test_rework_begins_where_the_last_attempt_ended(ready: Place) -> None:
    head = ready.commit("done.txt")
    ready.write("half.txt")
    (ready.gitdir / "index.lock").touch()
    assert ready.prepare() == OK
    assert ready.facts == {"start_sha": head, "fresh": False, "how": "kept"}
    assert (ready.path / "half.txt").exists() and not (ready.gitdir / "index.lock").exists()


def test_a_root_behind_a_link_is_the_same_root(repo: Repo, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(repo.root)
    place, second = Place(Repo(link, repo.env), "t"), Place(Repo(link, repo.env), "u")
    assert place.prepare() == OK and place.prepare() == OK and place.facts["how"] == "kept"
    (place.path / ".git").unlink()
    assert place.prepare() == OK and place.facts["how"] == "kept"
    assert second.prepare(place) == OK and second.facts["how"] == "reused"
    worktrees.remove(link, second.path)
    assert len(ours.worktrees(repo.root)) == 1


@pytest.mark.parametrize("name", ["a b", "ä\nö", "-dash"])
def test_odd_paths_are_paths(tmp_path: Path, repo: Repo, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    moved = Repo(folder / "project", repo.env)
    shutil.copytree(repo.root, moved.root)
    place, second = Place(moved, "t"), Place(moved, "u")
    assert place.prepare() == OK and place.proven_clean(place.base)
    place.write("left.txt")
    assert place.collect() == OK and place.facts["files"] == ["left.txt"]
    assert second.prepare(place) == OK and second.facts["how"] == "reused"


def test_an_unknown_base_is_trouble_not_a_failure(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert place.prepare(base="0" * 40) == TROUBLE
    assert place.prepare(base="--force") == TROUBLE
    assert "octopoid:" in capfd.readouterr().out
    assert place.prepare() == OK


def test_outside_a_repository_is_trouble(place: Place, tmp_path: Path) -> None:
    arguments = {"worktree": str(tmp_path / "w"), "facts": str(tmp_path / "f")}
    assert workspace.prepare(root=str(tmp_path), base_sha=place.base, reuse="", include=False, **arguments) == TROUBLE


def test_a_worktree_that_was_half_made_is_made_again(repo: Repo, ready: Place) -> None:
    gitdir = ready.gitdir
    (gitdir / MARK).unlink()
    (gitdir / "locked").write_text("initializing")  # git was killed in the middle of `worktree add`
    (ready.path / "a.txt").unlink()
    assert ready.prepare() == OK and ready.facts["how"] == "added"
    assert ready.proven_clean(ready.base)
    assert len(ours.worktrees(repo.root)) == 2


def test_a_worktree_that_lacks_only_our_mark_is_kept(ready: Place) -> None:
    (ready.gitdir / MARK).unlink()
    ready.write("half.txt")
    assert ready.prepare() == OK and ready.facts["how"] == "kept"
    assert (ready.gitdir / MARK).exists() and (ready.path / "half.txt").exists()


def test_an_empty_folder_is_in_nobodys_way(place: Place) -> None:
    place.path.mkdir(parents=True)
    assert place.prepare() == OK and place.proven_clean(place.base)


def test_what_is_not_ours_is_set_aside(repo: Repo, place: Place) -> None:
    place.write("precious.txt", "mine\n")
    assert place.prepare() == OK and place.facts["how"] == "added"
    assert (place.path.parent / ".aside-task-1-1/precious.txt").read_text() == "mine\n"
    git(repo, "worktree", "remove", "--force", place.path)
    place.path.symlink_to(repo.root)
    assert place.prepare() == OK
    assert (place.path.parent / ".aside-task-1-2").is_symlink()


def test_a_worktree_of_somebody_else_is_set_aside_whole(repo: Repo, place: Place) -> None:
    git(repo, "worktree", "add", "-q", "--detach", place.path, "main~1")
    place.write("precious.txt", "mine\n")
    assert place.prepare() == OK and place.proven_clean(place.base)
    aside = place.path.parent / ".aside-task-1-1"
    assert git(repo, "status", "--porcelain", at=aside) == "?? precious.txt"


def test_a_lost_folder_begins_again_at_its_last_commit(repo: Repo, ready: Place) -> None:
    head = ready.commit("done.txt")
    shutil.rmtree(ready.path)
    assert ready.prepare() == OK
    assert ready.facts == {"start_sha": head, "fresh": True, "how": "added"}
    assert len(ours.worktrees(repo.root)) == 2


def test_a_lost_git_file_is_written_again_for_the_next_attempt(ready: Place) -> None:
    head = ready.commit("done.txt")
    ready.write("half.txt")
    (ready.path / ".git").unlink()
    assert ready.prepare() == OK
    assert ready.facts == {"start_sha": head, "fresh": False, "how": "kept"}
    assert ready.git("status", "--porcelain") == "?? half.txt"


def test_a_repository_of_the_agents_own_is_set_aside_and_its_commits_go_on(ready: Place) -> None:
    head = ready.commit("done.txt")
    (ready.path / ".git").unlink()
    ready.git("init", "-q")
    assert ready.prepare() == OK
    assert ready.facts["start_sha"] == head and ready.facts["how"] == "added"
    assert (ready.path.parent / ".aside-task-1-1/done.txt").exists()


def test_a_repository_that_moved_finds_its_worktrees_again(repo: Repo, tmp_path: Path) -> None:
    old = Repo(tmp_path / "old", repo.env)
    shutil.copytree(repo.root, old.root)
    before = Place(old, "t")
    assert before.prepare() == OK
    head = before.commit("done.txt")
    new = Repo(tmp_path / "néw place", repo.env)
    old.root.rename(new.root)
    after = Place(new, "t")
    assert after.check_out(head) == OK
    assert after.prepare() == OK and after.facts["how"] == "kept"
    assert after.proven_clean(head)


def test_a_post_checkout_hook_that_fails_does_not_unmake_the_worktree(repo: Repo, place: Place) -> None:
    hook(repo, "post-checkout", "exit 3")
    assert place.prepare() == OK and place.proven_clean(place.base)


def test_an_agent_on_a_branch_is_taken_off_it(ready: Place) -> None:
    ready.git("checkout", "-q", "-b", "mine")
    head = ready.commit("done.txt")
    assert ready.prepare() == OK and ready.facts["start_sha"] == head
    ready.git("symbolic-ref", "-q", "HEAD", ok=(1,))
    ready.git("checkout", "-q", "--orphan", "fresh")
    assert ready.prepare() == OK and ready.facts["start_sha"] == ready.base
    ready.git("branch", "-D", "mine")


# --- reuse ---


def test_a_reused_worktree_is_clean_at_the_new_base_and_keeps_what_is_ignored(repo: Repo, ready: Place) -> None:
    ready.commit("work.txt")
    ready.write("a.txt", "changed\n")
    ready.write("staged.txt")
    ready.git("add", "staged.txt")
    (ready.path / "dir/b.txt").unlink()
    ready.write("new folder/deep/file")
    (ready.path / "empty/folder").mkdir(parents=True)
    ready.git("init", "-q", "nested")
    ready.write("nested/file")
    for name in ("node_modules/pkg/index.js", "x.log", ".env"):
        ready.write(name, "kept\n")
    second = Place(repo, "task-2")
    assert second.prepare(ready) == OK
    assert second.facts == {"start_sha": second.base, "fresh": False, "how": "reused"}
    assert second.proven_clean(second.base)
    names = {str(path.relative_to(second.path)) for path in second.path.rglob("*") if path.is_file()}
    tracked = {"README.md", "a.txt", "dir/b.txt", ".gitignore", ".git"}
    assert names == tracked | {"node_modules/pkg/index.js", "x.log", ".env"}
    assert not (second.path / "empty").exists()
    assert (second.path / "a.txt").read_text() == "a\n"
    assert not ready.path.exists() and len(ours.worktrees(repo.root)) == 2
    assert ready.prepare() == OK and ready.facts["how"] == "added"  # its old name is free again


@pytest.mark.parametrize("command", ["merge", "rebase", "cherry-pick", "bisect start HEAD"])
def test_what_was_in_progress_does_not_pass_on(repo: Repo, ready: Place, command: str) -> None:
    side = ready.commit("a.txt", "one\n")
    ready.git("checkout", "-q", "--detach", ready.base)
    ready.commit("a.txt", "two\n")
    ready.git(*command.split(), "HEAD~1" if "bisect" in command else side, ok=(0, 1, 128))
    assert going_on(ready.gitdir)
    second = Place(repo, "task-2")
    assert second.prepare(ready) == OK and second.facts["how"] == "reused"
    assert second.proven_clean(second.base)
    assert "progress" not in second.git("status") and "bisect" not in second.git("status")


def test_files_that_git_was_told_not_to_look_at_are_put_right(repo: Repo, ready: Place) -> None:
    ready.git("update-index", "--assume-unchanged", "a.txt")
    ready.git("update-index", "--skip-worktree", "dir/b.txt")
    ready.write("a.txt", "hidden\n")
    ready.write("dir/b.txt", "hidden\n")
    assert ready.git("status", "--porcelain") == ""
    assert ready.check_out(ready.base) == OK
    assert (ready.path / "a.txt").read_text() == "a\n" and (ready.path / "dir/b.txt").read_text() == "b\n"
    ready.git("sparse-checkout", "set", "dir")
    assert ready.check_out(ready.base) == OK
    assert (ready.path / "a.txt").exists()


@pytest.mark.parametrize("broken", ["locked", "config.worktree", "half", "index", "gone", "nested"])
def test_what_cannot_be_reused_gives_a_fresh_one(repo: Repo, ready: Place, broken: str) -> None:
    gitdir = ready.gitdir
    if broken in ("locked", "config.worktree"):
        (gitdir / broken).touch()
    elif broken == "half":
        (gitdir / MARK).rename(gitdir / worktrees.HALF)
    elif broken == "index":
        (gitdir / "index").write_bytes(b"garbage")  # mended instead
    elif broken == "gone":
        shutil.rmtree(ready.path)
    else:
        (ready.path / ".git").unlink()
    second = Place(repo, "task-2")
    assert second.prepare(ready) == OK
    assert second.facts["how"] == ("reused" if broken == "index" else "added")
    assert second.proven_clean(second.base)


def test_the_users_own_worktree_is_never_taken_over(repo: Repo, tmp_path: Path) -> None:
    theirs, second = Place(repo, "theirs"), Place(repo, "task-2")
    theirs.path = tmp_path / "theirs"
    git(repo, "worktree", "add", "-q", "--detach", theirs.path)
    theirs.write("precious.txt")
    assert second.prepare(theirs) == OK and second.facts["how"] == "added"
    assert (theirs.path / "precious.txt").exists()
    main = Place(repo, "main")
    main.path = repo.root
    third = Place(repo, "task-3")
    assert third.prepare(main) == OK and third.facts["how"] == "added"


def test_a_take_over_that_was_killed_is_not_taken_for_rework(repo: Repo, ready: Place) -> None:
    ready.write("foreign.txt")
    second = Place(repo, "task-2")
    gitdir = ready.gitdir
    (gitdir / MARK).rename(gitdir / worktrees.HALF)
    ready.path.rename(second.path)
    (gitdir / "gitdir").write_text(f"{second.path}/.git\n")
    assert second.prepare() == OK and second.facts["how"] == "added"
    assert second.proven_clean(second.base)
    assert len(ours.worktrees(repo.root)) == 2


def test_a_take_over_that_fails_half_way_leaves_a_fresh_one(repo: Repo, ready: Place) -> None:
    second = Place(repo, "task-2")
    blob = git(repo, "rev-parse", "main:a.txt")
    assert second.prepare(ready, base=blob) == TROUBLE  # there is no such commit
    assert second.prepare() == OK and second.facts["how"] == "added"


def test_folders_without_write_permission_are_removed_too(ready: Place) -> None:
    ready.write("locked/file")
    (ready.path / "locked").chmod(0o500)
    assert ready.check_out(ready.base) == OK and not (ready.path / "locked").exists()


# --- .worktreeinclude ---


def test_ignored_files_that_are_named_are_copied(
    repo: Repo, place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = (".env", ".env.local", "conf/deep/.env", "a.txt", "untracked", "x.log", "node_modules/m/x.js")
    (repo.root / ".octopoid").mkdir(exist_ok=True)
    made = [
        repo.root / name for name in (".env", ".env.local", "conf/deep/.env", "node_modules/m/x.js", ".octopoid/.env")
    ]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret\n")
    (repo.root / ".env").chmod(0o600)
    (tmp_path / "outside").write_text("outside\n")
    links = {".env.out": tmp_path / "outside", ".env.in": Path(".env"), ".env.up": Path("../outside")}
    for name, target in links.items():
        (repo.root / name).symlink_to(target)
    include = repo.root / ".worktreeinclude"
    include.write_text("# what a worktree needs\n.env*\n!.env.local\na.txt\nuntracked\n")
    try:
        assert place.prepare(include=True) == OK
        found = {name for name in (*names, *links, ".octopoid/.env") if os.path.lexists(place.path / name)}
        assert found == {".env", "conf/deep/.env", "a.txt", ".env.in"}
        assert (place.path / ".env").stat().st_mode & 0o777 == 0o600
        assert (place.path / ".env.in").readlink() == Path(".env")
        assert "outside" not in capfd.readouterr().err
        (place.path / ".env").write_text("changed by the task\n")
        second = Place(repo, "task-2")
        assert second.prepare(place, include=True) == OK
        assert (second.path / ".env").read_text() == "changed by the task\n"
        third = Place(repo, "task-3")
        assert third.prepare() == OK and not (third.path / ".env").exists()
    finally:
        for path in (*made, include, *(repo.root / name for name in links)):
            path.unlink()
        shutil.rmtree(repo.root / "node_modules")


def test_a_link_in_the_base_does_not_lead_a_copy_outside(repo: Repo, place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = git(repo, "rev-parse", "main^{tree}")
    blob = ours.run(repo.root, "hash-object", "-w", "--stdin", input=str(outside)).out.strip()
    listing = git(repo, "ls-tree", tree) + f"\n120000 blob {blob}\tconf\n"
    tree = ours.run(repo.root, "mktree", input=listing).out.strip()
    base = git(repo, "commit-tree", "-p", "main", "-m", "link", tree)
    (repo.root / "conf").mkdir()
    (repo.root / "conf/.env").write_text("secret\n")
    (repo.root / ".worktreeinclude").write_text(".env\n")
    try:
        assert place.prepare(base=base, include=True) == OK
        assert (place.path / "conf").is_symlink() and not list(outside.iterdir())
    finally:
        shutil.rmtree(repo.root / "conf")
        (repo.root / ".worktreeinclude").unlink()


# --- collect ---


def test_commits_and_leftovers_are_collected(ready: Place) -> None:
    first = ready.commit("one.txt")
    ready.write("two wörds\n.txt")
    ready.write("a.txt", "changed\n")
    (ready.path / "dir/b.txt").unlink()
    assert ready.collect() == OK
    facts, head = ready.facts, ready.git("rev-parse", "HEAD")
    assert facts.pop("files") == sorted(["one.txt", "two wörds\n.txt", "a.txt", "dir/b.txt"])
    assert facts == {
        "head": head,
        "tree": ready.git("rev-parse", "HEAD^{tree}"),
        "merge_base": ready.base,
        "merge_base_tree": ready.git("rev-parse", f"{ready.base}^{{tree}}"),
        "commits": 2,
        "files_total": 4,
        "committed": True,
        "dirty": False,
        "policy": False,
        "orphan": False,
        "notes": [],
    }
    assert ready.git("rev-parse", "HEAD~1") == first
    assert ready.git("log", "-1", "--format=%an %ae|%B").startswith(
        "Ada Tester ada@example.org|Add a thing\n\nWhy.\n\n"
    )
    assert ready.git("log", "-1", "--format=%(trailers:key=Octopoid-Task,valueonly)").strip() == "task-1"
    assert ready.proven_clean(head)


def test_a_repository_where_the_base_moved_on_counts_from_the_merge_base(repo: Repo, ready: Place) -> None:
    start = ready.base
    ready.commit("one.txt")
    ready.base = git(repo, "commit-tree", "-p", start, "-m", "later", f"{start}~1^{{tree}}")
    assert ready.collect() == OK
    facts = ready.facts
    assert facts["merge_base"] == start and facts["files"] == ["one.txt"] and facts["commits"] == 1


def test_nothing_new_is_nothing(ready: Place) -> None:
    assert ready.collect() == OK
    facts = ready.facts
    assert (facts["head"], facts["commits"], facts["files_total"], facts["committed"]) == (ready.base, 0, 0, False)
    assert facts["tree"] == facts["merge_base_tree"]


@pytest.mark.parametrize("said", ['{"outcome": "question"}', '{"outcome": "failed"}'])
def test_unfinished_work_is_not_committed(ready: Place, said: str) -> None:
    ready.result.write_text(said)
    ready.write("half.txt")
    assert ready.collect() == OK
    assert ready.facts["dirty"] and not ready.facts["committed"]
    assert ready.git("status", "--porcelain") == "?? half.txt"


@pytest.mark.parametrize("said", ['{"outcome": "done"}', "not json", "[]", '{"outcome": 3}', "\0"])
def test_any_other_word_does_not_stop_the_commit(ready: Place, said: str) -> None:
    ready.result.write_text(said)
    ready.write("whole.txt")
    assert ready.collect() == OK and ready.facts["committed"]


def test_a_result_that_is_no_file_is_no_word(ready: Place) -> None:
    os.mkfifo(ready.result)
    ready.write("whole.txt")
    assert ready.collect() == OK and ready.facts["committed"]
    ready.result.unlink()
    ready.result.write_text("[" * 100_000)
    assert ready.collect() == OK


def test_without_leave_nothing_is_committed(ready: Place) -> None:
    ready.write("half.txt")
    assert ready.collect(commit=False) == OK
    assert ready.facts["dirty"] and not ready.facts["committed"] and ready.facts["commits"] == 0


def test_the_users_hooks_run_and_may_refuse(repo: Repo, ready: Place, capfd: pytest.CaptureFixture[str]) -> None:
    hook(repo, "pre-commit", "echo no tabs please; exit 1")
    ready.write("left.txt")
    assert ready.collect() == FAILED
    said = capfd.readouterr()
    assert "no tabs please" in said.out + said.err and "refused" in said.out
    assert ready.facts["dirty"] and not ready.facts["committed"] and ready.facts["notes"]
    hook(repo, "pre-commit", "exit 0")
    hook(repo, "commit-msg", 'grep -q "Add a thing" "$1"')
    assert ready.collect() == OK and ready.facts["committed"]


def test_no_identity_is_trouble_and_said_clearly(repo: Repo, ready: Place, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (("user.useConfigOnly", "true"), ("--unset", "user.name"), ("--unset", "user.email")):
        git(repo, "config", *words)
    ready.write("left.txt")
    assert ready.collect() == TROUBLE
    assert "user.name" in capfd.readouterr().out


def test_a_branch_of_the_agents_is_left_where_it_was(repo: Repo, ready: Place) -> None:
    ready.git("checkout", "-q", "-b", "mine")
    first = ready.commit("one.txt")
    ready.write("two.txt")
    assert ready.collect() == OK
    assert ready.facts["commits"] == 2 and "refs/heads/mine" in ready.facts["notes"][0]
    assert git(repo, "rev-parse", "mine") == first  # the leftovers are not committed onto somebody's branch
    ready.git("symbolic-ref", "-q", "HEAD", ok=(1,))
    git(repo, "branch", "-D", "mine")


def test_the_users_branch_cannot_be_checked_out_by_an_agent(ready: Place) -> None:
    ready.git("checkout", "-q", "main", ok=(128,))


def test_a_history_of_its_own_is_an_orphan(ready: Place) -> None:
    orphan = ready.git("commit-tree", "-m", "x", "HEAD^{tree}")
    ready.git("checkout", "-q", "--detach", orphan)
    ready.write("more.txt")
    assert ready.collect() == OK
    facts = ready.facts
    assert facts["orphan"] and facts["merge_base"] == "" and facts["commits"] == 2 and facts["files"] == ["more.txt"]


def test_an_unborn_branch_becomes_work_on_the_base(repo: Repo, ready: Place) -> None:
    ready.git("checkout", "-q", "--orphan", "fresh")
    ready.write("more.txt")
    assert ready.collect() == OK
    assert not ready.facts["orphan"] and ready.facts["commits"] == 1 and ready.facts["files"] == ["more.txt"]
    assert git(repo, "branch", "--list", "fresh") == ""


def test_rewritten_history_is_counted_from_the_older_merge_base(ready: Place) -> None:
    ready.git("reset", "-q", "--hard", "HEAD~1")
    ready.commit("other.txt")
    assert ready.collect() == OK
    assert ready.facts["merge_base"] == ready.git("rev-parse", f"{ready.base}~1") and ready.facts["files"] == [
        "other.txt"
    ]


def test_a_conflict_left_in_progress_is_a_failure_and_stays(ready: Place) -> None:
    ready.commit("a.txt", "one\n")
    side = ready.git("commit-tree", "-p", ready.base, "-m", "x", f"{ready.base}~1^{{tree}}")
    ready.git("merge", side, ok=(1,))
    assert ready.collect() == FAILED
    assert "merge in progress" in ready.facts["notes"][0] and ready.facts["dirty"]
    assert (ready.gitdir / "MERGE_HEAD").exists()


def test_policy_changes_are_seen(ready: Place) -> None:
    ready.write(".octopoid/agents.yaml", "version: 1\n")
    ready.git("add", "-f", ".octopoid/agents.yaml")
    assert ready.collect() == OK
    assert ready.facts["policy"] and ready.facts["files"] == [".octopoid/agents.yaml"]


def test_many_files_are_counted_and_some_are_listed(ready: Place) -> None:
    for number in range(workspace.LISTED + 5):
        ready.write(f"many/{number}")
    assert ready.collect() == OK
    assert ready.facts["files_total"] == workspace.LISTED + 5 and len(ready.facts["files"]) == workspace.LISTED


def test_a_clone_inside_is_not_committed_as_a_submodule(ready: Place) -> None:
    ready.git("clone", "-q", ready.repo.root, "libs/clone")
    ready.write("libs/mine.txt")
    assert ready.collect() == OK
    assert ready.facts["files"] == ["libs/mine.txt"] and "libs/clone" in ready.facts["notes"][0]


def test_an_empty_repository_inside_is_left_out(ready: Place) -> None:
    ready.git("init", "-q", "libs/empty")
    ready.write("libs/mine.txt")
    ready.write("more.txt")
    assert ready.collect() == OK
    assert ready.facts["files"] == ["libs/mine.txt", "more.txt"] and "libs/empty" in ready.facts["notes"][0]


def test_a_submodule_that_was_added_properly_is_work(ready: Place) -> None:
    ready.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", f"file://{ready.repo.root}", "lib/sub")
    assert ready.collect() == OK
    assert ready.facts["files"] == [".gitmodules", "lib/sub"] and ready.facts["notes"] == []
    second = Place(ready.repo, "task-2")
    assert second.prepare(ready) == OK and second.facts["how"] == "added"  # submodules cannot be moved


def test_a_stale_lock_is_removed_here_and_nowhere_else(repo: Repo, ready: Place) -> None:
    ours_lock, theirs = ready.gitdir / "index.lock", repo.root / ".git/index.lock"
    other = repo.root / ".git/refs/heads/other.lock"
    for lock in (ours_lock, theirs, other):
        lock.touch()
    ready.write("left.txt")
    try:
        assert ready.collect() == OK and ready.facts["committed"]
        assert not ours_lock.exists() and theirs.exists() and other.exists()
    finally:
        theirs.unlink()
        other.unlink()


# --- containment ---


def _no_git_file(place: Place, other: Path) -> None:
    (place.path / ".git").unlink()


def _git_folder(place: Place, other: Path) -> None:
    (place.path / ".git").unlink()
    place.git("init", "-q")


def _link_to_the_users(place: Place, other: Path) -> None:
    (place.path / ".git").unlink()
    (place.path / ".git").symlink_to(place.repo.root / ".git")


def _points_to_the_users(place: Place, other: Path) -> None:
    (place.path / ".git").write_text(f"gitdir: {place.repo.root}/.git\n")


def _points_to_another_worktree(place: Place, other: Path) -> None:
    git(place.repo, "worktree", "add", "-q", "--detach", other)
    (place.path / ".git").write_text(f"gitdir: {place.repo.root}/.git/worktrees/{other.name}\n")


def _is_a_link(place: Place, other: Path) -> None:
    place.path.rename(other)
    place.path.symlink_to(place.repo.root)


def _gone(place: Place, other: Path) -> None:
    shutil.rmtree(place.path)


def _unregistered(place: Place, other: Path) -> None:
    shutil.rmtree(place.gitdir)


def _works_elsewhere(place: Place, other: Path) -> None:
    git(place.repo, "config", "extensions.worktreeConfig", "true")
    place.git("config", "--worktree", "core.worktree", place.repo.root)


@pytest.mark.parametrize(
    "breaking",
    [
        _no_git_file,
        _git_folder,
        _link_to_the_users,
        _points_to_the_users,
        _points_to_another_worktree,
        _is_a_link,
        _gone,
        _unregistered,
        _works_elsewhere,
    ],
)
def test_a_worktree_that_is_none_stops_everything(
    repo: Repo, ready: Place, tmp_path: Path, breaking: Callable[[Place, Path], None]
) -> None:
    """LESSONS 25: nothing is committed anywhere, and the user's checkout (see `untouched`) is as it was."""
    ready.commit("done.txt")
    ready.write("left.txt")
    breaking(ready, tmp_path / "other")
    commits = git(repo, "rev-list", "--all", "--count")
    assert ready.collect() == BROKEN
    assert git(repo, "rev-list", "--all", "--count") == commits
    with pytest.raises(Contained):
        worktrees.ask(repo.root, ready.path)
    if breaking is not _no_git_file:  # that one is mended: the candidate is thrown over it anyway
        assert ready.check_out(ready.base) == BROKEN
        assert ready.restore(ready.base) == BROKEN


# --- checks and reviewers ---


def test_a_commit_is_put_there_whatever_a_former_run_left(ready: Place) -> None:
    first, second = ready.commit("one.txt"), ready.commit("two.txt")
    ready.write("one.txt", "changed\n")
    ready.write("dropping/file")
    ready.write("cache.log", "kept\n")
    ready.git("checkout", "-q", "-b", "switched")
    (ready.gitdir / "HEAD.lock").touch()
    assert ready.check_out(first) == OK
    assert ready.proven_clean(first) and (ready.path / "cache.log").exists()
    assert not (ready.path / "dropping").exists() and not (ready.path / "two.txt").exists()
    assert ready.check_out(second) == OK and ready.proven_clean(second)
    ready.git("branch", "-D", "switched")


def test_droppings_may_stay(ready: Place) -> None:
    head = ready.commit("one.txt")
    ready.write("one.txt", "changed\n")
    ready.write("dropping")
    assert ready.check_out(head, clean=False) == OK
    assert ready.git("status", "--porcelain") == "?? dropping"


def test_a_commit_that_is_not_there_is_trouble(ready: Place) -> None:
    head = ready.commit("one.txt")
    assert ready.check_out("0" * 40) == TROUBLE
    assert ready.proven_clean(head)


def test_hooks_do_not_run_when_a_commit_is_put_there(repo: Repo, ready: Place) -> None:
    hook(repo, "post-checkout", "echo ran > ran-in-the-worktree; exit 1")
    assert ready.check_out(ready.base) == OK and not (ready.path / "ran-in-the-worktree").exists()


def test_what_a_reviewer_changed_is_reported_and_thrown_away(ready: Place) -> None:
    head = ready.commit("one.txt")
    assert ready.restore(head) == OK and ready.facts == {"changed": []}
    ready.write("one.txt", "better\n")
    ready.write("a b")
    ready.git("mv", "a.txt", "c.txt")
    assert ready.restore(head) == OK
    assert sorted(ready.facts["changed"]) == ["a b", "a.txt", "c.txt", "one.txt"]
    assert ready.proven_clean(head)
    ready.commit("sneaked.txt")
    assert ready.restore(head) == OK
    assert ready.facts["changed"] == ["sneaked.txt"] and ready.proven_clean(head)


def test_a_reviewer_who_switches_branches_or_loses_the_git_file_is_undone(repo: Repo, ready: Place) -> None:
    head = ready.commit("one.txt")
    ready.git("checkout", "-q", "--orphan", "strange")
    assert ready.restore(head) == OK and ready.proven_clean(head)
    ready.git("checkout", "-q", "-b", "named")
    assert ready.restore(head) == OK
    ready.git("symbolic-ref", "-q", "HEAD", ok=(1,))
    (ready.path / ".git").unlink()
    assert ready.restore(head) == OK and ready.proven_clean(head)
    git(repo, "branch", "-D", "named")


# --- removing ---


def test_removing_takes_folder_and_registration(repo: Repo, ready: Place) -> None:
    ready.write("node_modules/x/y.js")
    (ready.path / "node_modules/x").chmod(0o500)
    (ready.path / "link").symlink_to(repo.root)
    worktrees.remove(repo.root, ready.path)
    assert not ready.path.exists() and ours.worktrees(repo.root) == (repo.root,)
    worktrees.remove(repo.root, ready.path)  # nothing there: fine
    assert ready.prepare() == OK


def test_a_removal_that_was_killed_is_not_taken_for_rework(repo: Repo, ready: Place) -> None:
    (ready.gitdir / worktrees.REMOVED).touch()
    (ready.path / "a.txt").unlink()
    assert ready.prepare() == OK and ready.facts["how"] == "added"
    assert ready.proven_clean(ready.base)


def test_what_is_not_ours_is_not_removed(repo: Repo, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "--detach", tmp_path / "theirs")
    for path in (repo.root, repo.root.parent, tmp_path / "theirs"):
        with pytest.raises(Contained):
            worktrees.remove(repo.root, path)
        assert path.exists()


def test_size_is_what_the_disk_holds(ready: Place) -> None:
    before = worktrees.idle_size(ready.path)
    ready.write("big.log", "x" * 100_000)
    assert worktrees.idle_size(ready.path) - before >= 100_000
    assert worktrees.idle_size(ready.path / "nothing") == 0
