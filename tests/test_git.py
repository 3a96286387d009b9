"""`git` and `gitfiles`: what they read from files is what git says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from harness import Repo, commit, git

from octopoid import git as ours
from octopoid import gitfiles
from octopoid.errors import GitError, NotFound, TimedOut, UsageError


@pytest.fixture(autouse=True)
def user(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The git that the module starts is this user's, not the developer's."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "TZ"):
        monkeypatch.setenv(name, repo.env[name])


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# --- running it ---


def test_an_answer_has_both_outputs_and_an_allowed_status(repo: Repo) -> None:
    assert ours.run(repo.root, "symbolic-ref", "HEAD") == (0, "refs/heads/main\n", "")
    assert ours.run(repo.root, "rev-parse", "--verify", "-q", "nothing", ok=(1,)).status == 1


def test_a_status_that_is_not_allowed_is_an_error_that_says_what_git_said(repo: Repo) -> None:
    with pytest.raises(GitError, match="unknown-thing") as caught:
        ours.run(repo.root, "rev-parse", "--verify", "unknown-thing^{wrong}")
    assert caught.value.status == 128


def test_input_goes_to_stdin_and_there_is_none_otherwise(repo: Repo) -> None:
    assert len(ours.run(repo.root, "hash-object", "--stdin", input="ä\udcff\n").out) == 41
    assert ours.run(repo.root, "hash-object", "--stdin").out == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n"


def test_a_folder_that_is_gone_is_an_error_of_ours(repo: Repo) -> None:
    with pytest.raises(GitError, match="cannot start git") as caught:
        ours.run(repo.root / "gone", "status")
    assert caught.value.status == 127


def test_a_machine_without_git_says_so(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError) as caught:
        ours.run(repo.root, "status")
    assert caught.value.status == 127


def test_a_repository_of_the_caller_does_not_become_ours(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'user.name=Mallory'")
    assert ours.identity(repo.root) == "Ada Tester <ada@example.org>"
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Grace")
    assert ours.identity(repo.root) == "Grace <ada@example.org>"


def test_git_never_looks_above_the_folder_it_was_given(repo: Repo) -> None:
    inside = repo.root / "inside"
    inside.mkdir()
    with pytest.raises(GitError, match="not a git repository"):
        ours.run(inside, "status")
    link = repo.root.parent / "link"
    link.symlink_to(inside)
    with pytest.raises(GitError, match="not a git repository"):
        ours.run(link, "status")


def test_a_daemon_that_a_hook_leaves_behind_does_not_hold_us_up(repo: Repo) -> None:
    executable(repo.root / ".git/hooks/post-commit", 'sleep 20 &\necho $! > "$HOME/daemon"')
    begun = time.monotonic()
    ours.run(repo.root, *ours.QUICK, "commit", "-q", "--allow-empty", "-m", "x")
    assert time.monotonic() - begun < 15
    os.kill(int((Path(repo.env["HOME"]) / "daemon").read_text()), 9)


def test_a_limit_ends_git_and_says_so(repo: Repo) -> None:
    os.mkfifo(repo.root / "pipe")
    with pytest.raises(TimedOut):
        ours.run(repo.root, "hash-object", "--no-filters", "pipe", timeout=0.2)  # waits for somebody who writes


def test_shown_output_goes_where_ours_goes(repo: Repo, capfd: pytest.CaptureFixture[str]) -> None:
    assert ours.run(repo.root, "symbolic-ref", "HEAD", show=True).out == ""
    assert capfd.readouterr().out == "refs/heads/main\n"


def test_the_version_is_new_enough() -> None:
    assert ours.version() >= ours.MINIMUM


# --- names ---


NAMES = (
    *("main", "feature/x", "ä", "a.b", "$(touch x)", "--all", "--upload-pack=x", "", "a b", "a\nb", "a\x7f", "a~1"),
    *("HEAD", "a..b", "a.lock", "a/.b", "a/b.lock/c", "a/", "/a", "a//b", "a@{1}", "x.", "a\\b", "../../../etc"),
)


@pytest.mark.parametrize("name", NAMES)
def test_branch_names_are_those_of_git(repo: Repo, name: str) -> None:
    wanted = bool(name) and git(repo, "check-ref-format", "--branch", name, ok=(0, 128)) == name
    assert gitfiles.is_branch_name(name) is wanted
    if not wanted:
        assert ours.branch_sha(repo.root, name) is None
        with pytest.raises(UsageError):
            gitfiles.head_ref(name)


@pytest.mark.parametrize("text", ["", "HEAD", "--help", "abc", "g" * 40, "A" * 40, "0" * 41])
def test_only_full_object_names_become_operands(repo: Repo, text: str) -> None:
    with pytest.raises(UsageError):
        gitfiles.sha(text)
    assert not ours.commit_exists(repo.root, text)


# --- refs ---


def test_a_branch_is_found_loose_packed_symbolic_and_not_at_all(repo: Repo) -> None:
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "branch", "some/branch")
    git(repo, "branch", "mainly")
    assert ours.branch_sha(repo.root, "main") == ours.branch_sha(repo.root, "some/branch") == first
    git(repo, "pack-refs", "--all")
    assert not (repo.root / ".git/refs/heads/main").exists()
    second = commit(repo, {"x": "1"})
    assert ours.branch_sha(repo.root, "main") == second  # loose again, over the packed one
    assert ours.branch_sha(repo.root, "some/branch") == first
    git(repo, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    assert ours.branch_sha(repo.root, "alias") == second
    assert ours.branch_sha(repo.root, "some") is None
    assert ours.branch_sha(repo.root, "ain") is None


def test_reading_a_branch_starts_no_process(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert ours.branch_sha(repo.root, "main")
    assert ours.checkouts(repo.root, "main")
    assert ours.tree_of(repo.root, str(ours.branch_sha(repo.root, "main")))


def test_the_common_directory_is_the_same_from_everywhere(repo: Repo, tmp_path: Path) -> None:
    place = tmp_path / "a wörktree\nwith a line"
    git(repo, "worktree", "add", "-q", "--detach", place)
    assert gitfiles.common_dir(place) == gitfiles.common_dir(repo.root) == (repo.root / ".git").resolve()
    assert ours.worktrees(repo.root)[0] == repo.root
    with pytest.raises(NotFound):
        gitfiles.git_dir(tmp_path / "nowhere")


def test_a_separate_git_directory_is_followed(repo: Repo, tmp_path: Path) -> None:
    git(repo, "init", "-q", "--separate-git-dir", tmp_path / "elsewhere.git")
    gitfiles.common_dir.cache_clear()  # a process asks once: nobody moves it under a scheduler
    assert gitfiles.common_dir(repo.root) == tmp_path / "elsewhere.git"
    assert ours.branch_sha(repo.root, "main") == git(repo, "rev-parse", "HEAD")
    assert ours.checkouts(repo.root, "main") == (ours.Checkout(repo.root, ""),)


# --- checkouts ---


def test_every_worktree_that_has_a_branch_is_found(repo: Repo, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "side", tmp_path / "side")
    git(repo, "worktree", "add", "-q", "--detach", tmp_path / "loose")
    assert ours.checkouts(repo.root, "main") == (ours.Checkout(repo.root, ""),)
    assert ours.checkouts(repo.root, "side") == (ours.Checkout(tmp_path / "side", ""),)
    assert ours.checkouts(repo.root, "nothing") == ()
    git(repo, "checkout", "-q", "--ignore-other-worktrees", "main", at=tmp_path / "side")
    assert [place.path for place in ours.checkouts(repo.root, "main")] == [repo.root, tmp_path / "side"]


def test_a_worktree_whose_folder_is_gone_does_not_count_unless_it_is_locked(repo: Repo, tmp_path: Path) -> None:
    for name in ("gone", "usb"):
        git(repo, "worktree", "add", "-q", "-b", name, tmp_path / name)
    git(repo, "worktree", "lock", tmp_path / "usb")
    for name in ("gone", "usb"):
        (tmp_path / name).rename(tmp_path / f"{name}-away")
    assert ours.checkouts(repo.root, "gone") == ()
    assert [place.busy for place in ours.checkouts(repo.root, "usb")] == ["missing"]


def conflicting(repo: Repo) -> None:
    """`main` and `side` change the same line; `main` is checked out."""
    git(repo, "checkout", "-q", "-b", "side")
    commit(repo, {"README.md": "side\n"})
    git(repo, "checkout", "-q", "main")
    commit(repo, {"README.md": "main\n"})


@pytest.mark.parametrize(
    ("command", "word"),
    [("rebase", "rebase"), ("rebase --apply", "rebase"), ("merge", "merge"), ("cherry-pick", "cherry-pick")],
)
def test_what_is_going_on_in_a_checkout_is_named(repo: Repo, command: str, word: str) -> None:
    conflicting(repo)
    git(repo, *command.split(), "side", ok=(1, 128))
    assert ours.checkouts(repo.root, "main") == (ours.Checkout(repo.root, word),)


def test_a_bisect_and_a_revert_and_a_lock_are_named(repo: Repo) -> None:
    conflicting(repo)
    git(repo, "revert", "--no-edit", "side", ok=(1,))
    assert ours.checkouts(repo.root, "main")[0].busy == "revert"
    git(repo, "revert", "--abort")
    git(repo, "bisect", "start", "main", "main~1")
    assert ours.checkouts(repo.root, "main")[0].busy == "bisect"
    git(repo, "bisect", "reset")
    (repo.root / ".git/index.lock").touch()
    assert ours.checkouts(repo.root, "main")[0].busy == "index.lock"


def test_a_stacked_rebase_has_the_branches_below_it(repo: Repo) -> None:
    conflicting(repo)
    git(repo, "checkout", "-q", "side")
    git(repo, "branch", "below")
    commit(repo, {"more": "1"})
    git(repo, "rebase", "--update-refs", "main", ok=(1,))
    assert [place.busy for place in ours.checkouts(repo.root, "below")] == ["rebase"]
    assert [place.busy for place in ours.checkouts(repo.root, "side")] == ["rebase"]
    assert ours.checkouts(repo.root, "main") == ()


# --- questions ---


def test_commits_are_read_loose_and_packed(repo: Repo) -> None:
    first = git(repo, "rev-parse", "HEAD")
    second = commit(repo, {"x": "1"})
    wanted = gitfiles.Commit(git(repo, "rev-parse", "HEAD^{tree}"), (first,))
    assert ours.read_commit(repo.root, second) == wanted
    git(repo, "gc", "-q")
    assert gitfiles.loose_commit(repo.root / ".git", second) is None
    assert ours.read_commit(repo.root, second) == wanted
    assert ours.tree_of(repo.root, second) == wanted.tree
    assert ours.read_commit(repo.root, first).parents == ()
    with pytest.raises(GitError):
        ours.read_commit(repo.root, "0" * 40)


def test_a_sha256_repository_is_one_too(repo: Repo, tmp_path: Path) -> None:
    other = Repo(tmp_path / "sha256", repo.env)
    other.root.mkdir()
    git(other, "init", "-q", "-b", "main", "--object-format=sha256")
    git(other, "-c", "user.name=A", "-c", "user.email=b@c", "commit", "-q", "--allow-empty", "-m", "x")
    tip = ours.branch_sha(other.root, "main")
    assert tip == git(other, "rev-parse", "HEAD")
    assert ours.tree_of(other.root, tip) == git(other, "rev-parse", "HEAD^{tree}")


def test_ancestors_and_merge_bases(repo: Repo) -> None:
    first = git(repo, "rev-parse", "HEAD")
    second = commit(repo, {"x": "1"})
    assert ours.is_ancestor(repo.root, first, second) and ours.is_ancestor(repo.root, first, first)
    assert not ours.is_ancestor(repo.root, second, first)
    assert ours.merge_base(repo.root, first, second) == first
    orphan = git(repo, "commit-tree", "-m", "x", "HEAD^{tree}")
    assert ours.merge_base(repo.root, orphan, second) is None
    assert ours.commit_exists(repo.root, first) and not ours.commit_exists(repo.root, "0" * 40)
    assert not ours.commit_exists(repo.root, ours.tree_of(repo.root, first))
    with pytest.raises(GitError):
        ours.is_ancestor(repo.root, "0" * 40, second)


def test_changed_files_are_the_paths_as_they_are(repo: Repo) -> None:
    odd = ["-dash", "a b", "line\nend", "ä/ö", "$(touch x)"]
    first = git(repo, "rev-parse", "HEAD")
    commit(repo, dict.fromkeys(odd, "x\n"))
    git(repo, "mv", "README.md", "READ ME")
    second = commit(repo, {"READ ME": "# A project\n"})
    assert sorted(ours.changed_files(repo.root, first, second)) == sorted([*odd, "README.md", "READ ME"])
    assert ours.changed_files(repo.root, first, first) == ()


def test_diff_and_graph_are_for_people(repo: Repo) -> None:
    first = git(repo, "rev-parse", "HEAD")
    second = commit(repo, {"x": "new\n"}, "Add x")
    assert "+new" in ours.diff(repo.root, first, second, color=False, stat=False)
    assert "\x1b[" in ours.diff(repo.root, first, second, color=True, stat=False)
    assert "1 file changed" in ours.diff(repo.root, first, second, color=False, stat=True)
    assert ours.log_graph(repo.root, 1, color=False).startswith("* ")
    assert "\x1b[" in ours.log_graph(repo.root, 5, color=True)


def test_the_default_branch_is_the_one_in_use(repo: Repo) -> None:
    assert ours.default_branch(repo.root) == "main"
    git(repo, "checkout", "-q", "-b", "trunk/x")
    assert ours.default_branch(repo.root) == "trunk/x"
    git(repo, "checkout", "-q", "--detach")
    assert ours.default_branch(repo.root) == "main"
    git(repo, "branch", "-m", "main", "other")
    assert ours.default_branch(repo.root) is None


def test_a_missing_identity_is_known_and_named(repo: Repo) -> None:
    assert ours.identity(repo.root) == "Ada Tester <ada@example.org>"
    tree = ours.tree_of(repo.root, git(repo, "rev-parse", "HEAD"))
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    assert ours.identity(repo.root) is None
    with pytest.raises(GitError, match=r"user\.name"):
        ours.commit_tree(repo.root, tree, (), "x", {})


def test_commits_are_made_without_a_checkout(repo: Repo) -> None:
    first = git(repo, "rev-parse", "HEAD")
    made = ours.commit_tree(repo.root, ours.tree_of(repo.root, first), (first,), "ä\0x\n", {"GIT_AUTHOR_NAME": "Grace"})
    assert git(repo, "show", "-s", "--format=%an %cn %P %s", made) == f"Grace Ada Tester {first} äx"
    with pytest.raises(GitError, match="not a valid object"):
        ours.commit_tree(repo.root, "0" * 40, (), "x", {})


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("", "T\n\nOctopoid-Task: a\n"),
        ("Text.", "T\n\nText.\n\nOctopoid-Task: a\n"),
        ("Text.\n\nSigned-off-by: Ada <a@b>", "T\n\nText.\n\nSigned-off-by: Ada <a@b>\nOctopoid-Task: a\n"),
        ("Note: this\nis prose", "T\n\nNote: this\nis prose\n\nOctopoid-Task: a\n"),
        ("Octopoid-Task: a", "T\n\nOctopoid-Task: a\n"),
    ],
)
def test_trailers_are_one_block_at_the_end(repo: Repo, body: str, wanted: str) -> None:
    text = ours.message("T", body, (("Octopoid-Task", "a"),))
    assert text == wanted
    assert ours.run(repo.root, "interpret-trailers", "--parse", input=text).out.count("Octopoid-Task: a") == 1


def test_a_trailer_cannot_smuggle_a_line() -> None:
    assert ours.message("T", "", (("Octopoid-Task", "a\nb"),)) == "T\n\nOctopoid-Task: a b\n"


# --- hooks and facts ---


def test_hooks_that_run_on_landing_are_seen(repo: Repo, tmp_path: Path) -> None:
    hooks = ours.hooks_dir(repo.root)
    assert hooks == repo.root / ".git/hooks"
    executable(hooks / "pre-commit", "true")
    (hooks / "post-merge").write_text("not executable")
    assert not ours.hooks_run_on_landing(hooks)
    executable(tmp_path / "hooks/post-merge", "true")
    git(repo, "config", "core.hooksPath", tmp_path / "hooks")
    assert ours.hooks_run_on_landing(ours.hooks_dir(repo.root))
    git(repo, "config", "core.hooksPath", ".husky")
    assert ours.hooks_dir(repo.root) == repo.root / ".husky"


def test_the_facts_of_a_plain_repository(repo: Repo) -> None:
    facts = ours.repository_facts(repo.root)
    assert facts == ours.Facts("Ada Tester <ada@example.org>", False, (), "", (), False, False, False, False)


def test_the_facts_of_a_rich_repository(repo: Repo, tmp_path: Path) -> None:
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", f"file://{repo.root}", "lib/sub")
    (repo.root / ".gitattributes").write_text("*.bin filter=lfs\n")
    executable(tmp_path / "hooks/pre-commit", "true")
    git(repo, "config", "core.hooksPath", tmp_path / "hooks")
    git(repo, "config", "commit.gpgsign", "true")
    git(repo, "sparse-checkout", "set", "docs")
    facts = ours.repository_facts(repo.root)
    assert facts.submodules == ("lib/sub",)
    assert facts.hooks == ("pre-commit",) and facts.hooks_path == str(tmp_path / "hooks")
    assert facts.lfs and facts.signs and facts.sparse and not facts.shallow


def test_maintenance_is_ours_to_call(repo: Repo) -> None:
    ours.maintain(repo.root)
    assert git(repo, "fsck") == ""
