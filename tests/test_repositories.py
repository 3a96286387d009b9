"""Kinds of repositories and places: each one gets a task, through the installed program, and keeps what it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import books
import pytest
from harness import Repo, commit, drop, git, landed, make_repo, places, script, state_of

from octopoid import trust
from octopoid.states import State

WRITE = [{"write": {"path": "${OCTOPOID_TASK_ID}.txt", "text": "work\n"}}]


def life(repo: Repo, *actions: Any, **policy: Any) -> None:
    """One task, from a dropped file to a landed commit."""
    script(repo, {"tasks": {"default": {"implementer": [list(actions or WRITE)]}}}, **policy)
    drop(repo, "task", "# A task\n")
    repo.octopoid("run", "--until-empty")
    sound(repo)


def sound(repo: Repo, *tasks: str) -> None:
    for task in tasks or ("task",):
        assert places(repo, task) == (State.DONE,), repo.octopoid("status").out
    assert sorted(landed(repo)) == sorted(tasks or ("task",))
    assert books.check(repo) == []
    found = [
        one for one in repo.octopoid("doctor", "--json", ok=(0, 1)).json()["findings"] if one["severity"] == "error"
    ]
    assert found == []


# --- where it is ---


@pytest.mark.parametrize("name", ["-it's a \"né\n\\$(touch x)", "long-" * 45])
def test_a_path_is_a_path_and_may_change(tmp_path: Path, name: str) -> None:
    """FAULTS 21: names of all kinds; moved between two looks, and its parent renamed: the worktree is found again."""
    first = tmp_path / "parent"
    first.mkdir()
    repo = make_repo(first, name)
    life(repo)
    script(repo, {"tasks": {"default": {"implementer": [[{"question": ["Go on?"]}], WRITE]}}})
    drop(repo, "asks", "# Asks\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    (repo.layout.home / "worktrees/asks/left.txt").write_text("unsaved\n")
    first.rename(tmp_path / "renamed")
    (tmp_path / "renamed" / name).rename(tmp_path / "renamed" / f"{name}2")
    moved = Repo(tmp_path / "renamed" / f"{name}2", {**repo.env, "HOME": str(tmp_path / "renamed/home")})
    moved.octopoid("answer", "asks", "-m", "Yes")
    moved.octopoid("run", "--until-empty")
    sound(moved, "task", "asks")
    assert git(moved, "show", "main:left.txt") == "unsaved", "uncommitted work came along"
    assert not (tmp_path / "x").exists() and not (moved.root / "x").exists()


# --- what it is ---


def _detached(repo: Repo) -> Any:
    git(repo, "checkout", "-q", "--detach")
    at = git(repo, "rev-parse", "HEAD")
    return lambda: git(repo, "rev-parse", "HEAD") == at and (repo.root / "README.md").exists()


def _sparse(repo: Repo) -> Any:
    commit(repo, {"in/a": "a\n", "out/b": "b\n"})
    git(repo, "sparse-checkout", "set", "in")
    return lambda: not (repo.root / "out").exists() and git(repo, "ls-tree", "-r", "--name-only", "main", "out")


def _settings(repo: Repo) -> Any:
    git(repo, "config", "extensions.worktreeConfig", "true")
    git(repo, "config", "--worktree", "core.sparseCheckout", "false")
    git(repo, "config", "--worktree", "user.email", "grace@example.org")
    return lambda: git(repo, "log", "-1", "--format=%ce", "main") == "grace@example.org"


def _crlf(repo: Repo) -> Any:
    git(repo, "config", "core.autocrlf", "true")
    commit(repo, {"dos.md": "one\ntwo\n"})
    return lambda: git(repo, "status", "--porcelain", "--", "dos.md", "task.txt") == ""


def _filters(repo: Repo) -> Any:
    git(repo, "config", "filter.up.clean", "tr a-z A-Z")
    git(repo, "config", "filter.up.smudge", "tr A-Z a-z")
    commit(repo, {".gitattributes": "*.txt filter=up\n", "has.txt": "content\n"})
    return lambda: git(repo, "cat-file", "blob", "main:task.txt") == "WORK"


def _hooks(repo: Repo) -> Any:
    for name in ("post-checkout", "post-merge", "post-commit", "post-rewrite"):
        hook = repo.root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho no good >&2\nexit 1\n")
        hook.chmod(0o755)
    return lambda: True


def _lfs(repo: Repo) -> Any:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    (repo.root / ".git/info").mkdir(exist_ok=True)
    commit(repo, {"media/.gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "media/big.bin": pointer})
    return lambda: git(repo, "show", "main:media/big.bin").startswith("version https://git-lfs")


def _second_worktree(repo: Repo) -> Any:
    git(repo, "checkout", "-q", "-b", "mine")
    there = repo.root.parent / "second"
    git(repo, "worktree", "add", "-q", there, "main")
    return lambda: (there / "task.txt").exists() and not (repo.root / "task.txt").exists()


KINDS = {
    "detached": (_detached,),
    "sparse, with settings of its own": (_sparse, _settings),
    "line ends, filters, LFS without git-lfs, hooks that fail afterwards": (_crlf, _filters, _lfs, _hooks),
    "base in a second worktree": (_second_worktree,),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_lands_in_every_kind_of_repository(repo: Repo, kind: str) -> None:
    still = [make(repo) for make in KINDS[kind]]
    life(repo)
    assert [one() for one in still if not one()] == [], kind


def test_a_reftable(repo: Repo) -> None:
    """A git that knows it lands there; one that does not (before 2.45) says so, and nothing is made."""
    if "--ref-format" in git(repo, "init", "-h", ok=(129,)):
        git(repo, "refs", "migrate", "--ref-format=reftable")
        life(repo)
        return
    git(repo, "config", "core.repositoryformatversion", "1")
    git(repo, "config", "extensions.refStorage", "reftable")
    said = repo.octopoid("init", "-y", ok=[1])
    assert "unknown repository extension found: refstorage" in said.err
    assert not repo.layout.home.exists()


def test_a_submodules_new_commit_lands_and_its_settings_run_nothing(repo: Repo) -> None:
    """Its configuration is the agent's in a task's worktree: `git add` and `git status` would start what it names."""
    library = make_repo(repo.root.parent / "home", "library")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", library.root, "lib")
    git(repo, "commit", "-q", "-m", "A library")
    canary = repo.root.parent / "canary"
    work = (
        "git -c protocol.file.allow=always submodule update -q --init && cd lib && git config user.name a &&"
        " git config user.email a@example.org && echo more > more.txt && git add . && git commit -q -m more &&"
        f" git push -q {library.root} HEAD:refs/heads/side &&"
        f" git config core.fsmonitor 'touch {canary}; false' && git config filter.evil.clean 'touch {canary}; cat' &&"
        " echo '* filter=evil' > .gitattributes && echo less > more.txt &&"  # of the same size: git asks the filter
        f" rm -f {canary}"
    )
    life(repo, {"run": work}, *WRITE)
    assert git(repo, "ls-tree", "main", "lib").split()[2] == git(library, "rev-parse", "side")
    assert git(repo, "status", "--porcelain", "--ignore-submodules=all", "--", "lib", "README.md") == ""
    cleaned = repo.octopoid("clean", "--dry-run").out
    assert "repository inside cannot be told" in cleaned, "what is uncommitted in there is nobody's to throw away"
    assert not canary.exists()


@pytest.mark.parametrize("how", [("--depth", "1"), ("--filter", "blob:none")])
def test_a_clone_that_has_not_everything(repo: Repo, how: tuple[str, str]) -> None:
    commit(repo, {"old.txt": "old\n"})
    commit(repo, {"old.txt": "new\n"})
    git(repo, "config", "uploadpack.allowFilter", "true")
    clone = repo._replace(root=repo.root.parent / "clone")
    git(repo, "clone", "-q", *how, f"file://{repo.root}", clone.root)
    git(clone, "config", "user.name", "Ada Tester")
    git(clone, "config", "user.email", "ada@example.org")
    trust.mark(clone.root, 0.0)
    life(clone)


# --- what cannot be ---


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    repo = make_repo(tmp_path, "has")
    empty = repo._replace(root=tmp_path / "empty")
    git(repo, "init", "-q", "-b", "main", empty.root)
    trust.mark(empty.root, 0.0)
    script(empty, {"tasks": {"default": {"implementer": [WRITE]}}})
    drop(empty, "task", "# A task\n")
    empty.octopoid("run", "--until-empty", ok=(1, 4, 6))
    assert state_of(empty, "task") is State.INCOMING
    assert "main" in empty.octopoid("why", "task").out
    assert "no-commit" in empty.octopoid("doctor", "--json", ok=(1,)).out
    for key, value in (("user.name", "Ada"), ("user.email", "a@example.org")):
        git(empty, "config", key, value)
    commit(empty, {"README.md": "now\n"})
    empty.octopoid("run", "--until-empty")
    sound(empty)


def test_a_bare_repository_is_refused_with_a_sentence(repo: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(repo, "clone", "-q", "--bare", repo.root, bare)
    said = repo.octopoid("init", "-y", cwd=bare, ok=(1, 2, 3)).err
    assert "bare" in said and "Traceback" not in said
    linked = tmp_path / "linked"
    git(repo, "worktree", "add", "-q", linked, at=bare)
    assert "bare" in repo.octopoid("init", "-y", cwd=linked, ok=(1, 2, 3)).err


def test_a_required_filter_that_is_missing_is_the_machines_fault(repo: Repo) -> None:
    git(repo, "config", "filter.lfs.smudge", "git-lfs-is-not-here smudge %f")
    git(repo, "config", "filter.lfs.clean", "cat")
    git(repo, "config", "filter.lfs.required", "true")
    commit(repo, {".gitattributes": "*.bin filter=lfs -text\n", "big.bin": "pointer\n"})
    script(repo, {"tasks": {"default": {"implementer": [WRITE]}}})
    drop(repo, "task", "# A task\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    shown = repo.octopoid("show", "task", "--json").json()["task"]
    assert shown["attempts"] == 0 or shown["state"] == "incoming"
    status = repo.octopoid("status").out + repo.octopoid("why", "task").out
    assert "filter" in status or "worktree" in status
    git(repo, "config", "filter.lfs.smudge", "cat")


def test_a_hook_that_forbids_the_landing_is_quoted(repo: Repo) -> None:
    """It waits, says what the hook said, and lands when the hook agrees."""
    hook = repo.root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    deny = "#!/bin/sh\n[ $1 = prepared ] && grep -q refs/heads/main && { echo 'main is frozen' >&2; exit 1; }\nexit 0\n"
    script(repo, {"tasks": {"default": {"implementer": [WRITE]}}})
    hook.write_text(deny)
    hook.chmod(0o755)
    drop(repo, "task", "# A task\n")
    repo.octopoid("run", "--until-empty", ok=(6,))
    assert state_of(repo, "task") is State.PROVISIONAL
    needs = repo.octopoid("status", "--json").json()["needs_you"]
    assert "main is frozen" in needs[0]["detail"], needs
    hook.unlink()
    repo.octopoid("run", "--until-empty")
    sound(repo)


# --- the user's shell ---


def test_git_variables_of_the_users_shell_lead_nobody_astray(repo: Repo, tmp_path: Path) -> None:
    other = make_repo(tmp_path / "home", "other")
    before = git(other, "rev-parse", "HEAD"), git(other, "status", "--porcelain")
    names = {"GIT_DIR": other.root / ".git", "GIT_WORK_TREE": other.root, "GIT_INDEX_FILE": other.root / ".git/index"}
    more = {"GIT_OBJECT_DIRECTORY": other.root / ".git/objects", "GIT_COMMON_DIR": other.root / ".git"}
    lost = repo._replace(env={**repo.env, **{name: str(path) for name, path in (names | more).items()}})
    plain = repo
    script(plain, {"tasks": {"default": {"implementer": [WRITE]}}})
    drop(plain, "task", "# A task\n")
    lost.octopoid("run", "--until-empty")
    sound(plain)
    assert (git(other, "rev-parse", "HEAD"), git(other, "status", "--porcelain")) == before


def test_no_git_and_an_old_git_are_said(repo: Repo, tmp_path: Path) -> None:
    script(repo, {"tasks": {"default": {"implementer": [WRITE]}}})
    drop(repo, "task", "# A task\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "env", "true", "octopoid"):
        found = shutil.which(name, path=repo.env["PATH"])
        assert found
        (tools / name).symlink_to(found)
    bare = repo._replace(env={**repo.env, "PATH": str(tools)})
    said = bare.octopoid("run", "--until-empty", ok=(1, 3, 4, 6)).err + bare.octopoid("doctor", ok=(0, 1)).out
    assert "git" in said and "Traceback" not in said
    old = tools / "git"
    old.write_text('#!/bin/sh\n[ "$1" = version ] && { echo git version 2.20.1; exit; }\nexec /usr/bin/git "$@"\n')
    old.chmod(0o755)
    assert "2.20" in bare.octopoid("doctor", ok=(0, 1)).out
    assert state_of(repo, "task") is State.INCOMING


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_somebody_else_is_refused_in_gits_words(repo: Repo) -> None:
    script(repo, {"tasks": {"default": {"implementer": [WRITE]}}})
    drop(repo, "task", "# A task\n")
    subprocess.run(["chown", "-R", "12345:12345", repo.root / ".git", repo.root], check=True)
    said = repo.octopoid("run", "--until-empty", ok=(1, 4, 5, 6)).err
    told = said + repo.octopoid("status").out + repo.octopoid("doctor", ok=(0, 1)).out
    assert "safe.directory" in told or "dubious ownership" in told, told
    subprocess.run(["chown", "-R", "0:0", repo.root], check=True)
    assert state_of(repo, "task") is State.INCOMING and landed(repo) == ()
