"""What would land, and the moving of the base: real repositories in every state that a user leaves one in."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import Repo, commit, git

from octopoid import git as ours
from octopoid import merging
from octopoid.errors import GitError, UsageError
from octopoid.gitfiles import MARK
from octopoid.merging import Advance, Proposal

NOW = 1_800_000_000.5
TRAILERS = (("Octopoid-Task", "t-1"), ("Octopoid-Attempt", "2"))


@pytest.fixture(autouse=True)
def user(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The git that the module starts is this user's, not the developer's."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "TZ"):
        monkeypatch.setenv(name, repo.env[name])
    commit(repo, {"a.txt": "".join(f"line {n}\n" for n in range(9)), ".gitignore": "*.log\n"})


class Work:
    """A detached worktree in which commits are made as an agent makes them; the user's checkout is not touched."""

    def __init__(self, repo: Repo, start: str = "main") -> None:
        self.repo = Repo(repo.root.parent / "work", repo.env)
        git(repo, "worktree", "add", "-q", "--detach", self.repo.root, start)

    def commit(self, files: Mapping[str, str | None], message: str = "Work", author: str = "Robot <r@b>") -> str:
        for name, text in files.items():
            path = self.repo.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text, encoding="utf-8")
        git(self.repo, "add", "-A")
        date = "--date=2020-02-02T02:02:02+0300"
        git(self.repo, "commit", "-q", "--allow-empty", "-m", message, f"--author={author}", date)
        return git(self.repo, "rev-parse", "HEAD")


@pytest.fixture
def work(repo: Repo) -> Work:
    return Work(repo)


def propose(repo: Repo, candidate: str, mode: str = "merge", onto: str = "") -> Proposal:
    onto = onto or git(repo, "rev-parse", "main")
    return merging.propose(
        repo.root,
        onto=onto,
        candidate=candidate,
        mode=mode,
        title="Add a thing",
        body="Why.",
        trailers=TRAILERS,
        now=NOW,
    )


def show(repo: Repo, commit: str, form: str) -> str:
    return git(repo, "show", "-s", f"--format={form}", commit)


def files(repo: Repo, commit: str) -> dict[str, str]:
    names = git(repo, "ls-tree", "-r", "--name-only", commit).splitlines()
    return {name: git(repo, "show", f"{commit}:{name}") for name in names}


# --- proposals ---


def test_a_merge_is_always_one_merge_commit(repo: Repo, work: Work) -> None:
    onto, candidate = git(repo, "rev-parse", "main"), work.commit({"new": "1\n"})
    before = git(repo, "for-each-ref")
    found = propose(repo, candidate)
    assert found == Proposal(git(repo, "rev-parse", f"{candidate}^{{tree}}"), found.result_sha, onto, (), "")
    assert show(repo, found.result_sha, "%P") == f"{onto} {candidate}"  # although a fast-forward were possible
    assert show(repo, found.result_sha, "%an <%ae> %at %cn %ct") == (
        "Ada Tester <ada@example.org> 1800000000 Ada Tester 1800000000"
    )
    text = "Add a thing\n\nWhy.\n\nOctopoid-Task: t-1\nOctopoid-Attempt: 2"
    assert show(repo, found.result_sha, "%B").strip() == text
    assert git(repo, "for-each-ref") == before
    assert git(repo, "status", "--porcelain") == ""


def test_a_merge_takes_two_processes(repo: Repo, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, trace = work.commit({"new": "1\n"}), repo.root.parent / "trace"
    monkeypatch.setenv("GIT_TRACE2", str(trace))
    propose(repo, candidate, onto=str(ours.branch_sha(repo.root, "main")))
    starts = [row for row in trace.read_text().splitlines() if " start " in row]
    assert len(starts) == 2  # merge-tree, commit-tree


def test_the_same_question_has_the_same_answer(repo: Repo, work: Work) -> None:
    candidate = work.commit({"new": "1\n"})
    assert propose(repo, candidate) == propose(repo, candidate)


def test_a_squash_is_one_commit_of_the_user(repo: Repo, work: Work) -> None:
    work.commit({"new": "1\n"})
    candidate = work.commit({"new": "2\n"})
    onto = commit(repo, {"other": "x\n"})
    found = propose(repo, candidate, "squash")
    assert show(repo, found.result_sha, "%P %an") == f"{onto} Ada Tester"
    assert files(repo, found.result_sha)["new"] == "2" and "other" in files(repo, found.result_sha)
    assert found.tree == git(repo, "rev-parse", f"{found.result_sha}^{{tree}}")


def test_none_is_merged_for_the_checks(repo: Repo, work: Work) -> None:
    candidate = work.commit({"new": "1\n"})
    onto = commit(repo, {"other": "x\n"})
    found = propose(repo, candidate, "none")
    assert show(repo, found.result_sha, "%P") == f"{onto} {candidate}"
    assert {"new", "other"} <= set(files(repo, found.result_sha))


@pytest.mark.parametrize("mode", ["merge", "squash", "rebase", "none"])
def test_a_conflict_names_the_files_and_makes_nothing(repo: Repo, work: Work, mode: str) -> None:
    candidate = work.commit({"a.txt": "theirs\n", "with space\nand line": "x"}, "Change a")
    onto = commit(repo, {"a.txt": "ours\n"})
    found = propose(repo, candidate, mode)
    assert found.conflicts == ("a.txt",)
    assert (found.tree, found.result_sha, found.onto) == ("", "", onto)
    assert "CONFLICT (content)" in found.detail
    assert mode != "rebase" or "Change a" in found.detail


def test_a_file_deleted_here_and_changed_there_is_a_conflict(repo: Repo, work: Work) -> None:
    candidate = work.commit({"a.txt": None})
    commit(repo, {"a.txt": "changed\n"})
    found = propose(repo, candidate)
    assert found.conflicts == ("a.txt",) and "modify/delete" in found.detail


def test_renames_modes_and_binary_files_are_merged(repo: Repo, work: Work) -> None:
    root = work.repo.root
    git(work.repo, "mv", "a.txt", "b.txt")
    (root / "tool.sh").write_text("#!/bin/sh\n")
    (root / "tool.sh").chmod(0o755)
    (root / "blob").write_bytes(bytes(range(256)))
    (root / "link").symlink_to("b.txt")
    candidate = work.commit({})
    text = "".join(f"line {n}\n" for n in range(8)) + "last\n"
    commit(repo, {"a.txt": text})
    for mode in ("merge", "squash", "rebase"):
        found = propose(repo, candidate, mode)
        listing = git(repo, "ls-tree", "-r", found.tree)
        assert "100755" in listing and "120000" in listing
        assert git(repo, "show", f"{found.tree}:b.txt") == text.strip() and "a.txt" not in listing.split()


def test_a_binary_conflict_is_one(repo: Repo, work: Work) -> None:
    candidate = work.commit({"blob": "a\0b"})
    commit(repo, {"blob": "c\0d"})
    assert propose(repo, candidate).conflicts == ("blob",)


@pytest.mark.parametrize("mode", ["merge", "squash", "none"])
def test_a_history_of_its_own_is_refused(repo: Repo, mode: str) -> None:
    orphan = git(repo, "commit-tree", "-m", "x", "HEAD^{tree}")
    found = propose(repo, orphan, mode)
    assert found.conflicts == (merging.UNRELATED,) and "no history" in found.detail


def test_nonsense_is_an_error(repo: Repo) -> None:
    with pytest.raises(UsageError):
        propose(repo, git(repo, "rev-parse", "main"), "fast")
    with pytest.raises(GitError):
        propose(repo, "0" * 40)
    with pytest.raises(UsageError):
        propose(repo, "main")


def test_no_identity_is_said_clearly(repo: Repo, work: Work) -> None:
    candidate = work.commit({"new": "1\n"})
    git(repo, "config", "user.useConfigOnly", "true")
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")
    with pytest.raises(GitError, match=r"no user\.name"):
        propose(repo, candidate)


# --- rebase ---


def test_a_rebase_keeps_authors_dates_and_messages(repo: Repo, work: Work) -> None:
    work.commit({"one": "1\n"}, "One\n\nBody ä\n\nReviewed-by: X <x@y>", author="Zoë <z@e>")
    candidate = work.commit({"two": "2\n"}, "Two")
    onto = commit(repo, {"other": "x\n"})
    found = propose(repo, candidate, "rebase")
    assert git(repo, "rev-list", "--count", f"{onto}..{found.result_sha}") == "2"
    assert git(repo, "rev-parse", f"{found.result_sha}~2") == onto
    first = show(repo, f"{found.result_sha}~1", "%an <%ae>|%ad|%cn|%ct|%B")
    assert first.startswith("Zoë <z@e>|Sun Feb 2 02:02:02 2020 +0300|Ada Tester|1800000000|One\n\nBody ä\n\nReviewed")
    assert "Octopoid" not in first
    assert show(repo, found.result_sha, "%B").strip() == "Two\n\nOctopoid-Task: t-1\nOctopoid-Attempt: 2"
    assert found.tree == git(repo, "rev-parse", f"{found.result_sha}^{{tree}}")
    assert {"one", "two", "other"} <= set(files(repo, found.result_sha))


def test_a_rebase_where_nothing_moved_remakes_the_last_commit_only(repo: Repo, work: Work) -> None:
    first = work.commit({"one": "1\n"}, "One")
    candidate = work.commit({"two": "2\n"}, "Two\n\nOctopoid-Task: t-1")
    found = propose(repo, candidate, "rebase")
    assert git(repo, "rev-parse", f"{found.result_sha}~1") == first
    assert show(repo, found.result_sha, "%B").count("Octopoid-Task") == 1
    assert found.tree == ours.tree_of(repo.root, candidate)


def test_a_rebase_drops_what_somebody_else_landed_and_flattens_merges(repo: Repo, work: Work) -> None:
    same = {"same": "1\n"}
    work.commit(same, "Same")
    fork = git(work.repo, "rev-parse", "HEAD")
    work.commit({"left": "1\n"}, "Left")
    left = git(work.repo, "rev-parse", "HEAD")
    git(work.repo, "checkout", "-q", "--detach", fork)
    work.commit({"right": "1\n"}, "Right")
    git(work.repo, "merge", "-q", "--no-edit", left)
    candidate = work.commit({}, "Empty from the start")
    onto = commit(repo, {**same, "more": "x\n"})
    found = propose(repo, candidate, "rebase")
    subjects = git(repo, "log", "--format=%s", f"{onto}..{found.result_sha}").splitlines()
    assert sorted(subjects) == ["Empty from the start", "Left", "Right"]
    assert git(repo, "rev-list", "--merges", "--count", f"{onto}..{found.result_sha}") == "0"
    assert {"left", "right", "same", "more"} <= set(files(repo, found.result_sha))


def test_a_rebase_with_nothing_left_is_the_base(repo: Repo, work: Work) -> None:
    candidate = work.commit({"same": "1\n"})
    onto = commit(repo, {"same": "1\n"})
    found = propose(repo, candidate, "rebase")
    assert (found.result_sha, found.tree, found.conflicts) == (onto, ours.tree_of(repo.root, onto), ())
    assert propose(repo, onto, "rebase").result_sha == onto


def test_a_rebase_takes_a_root_commit_too(repo: Repo) -> None:
    empty = git(repo, "hash-object", "-t", "tree", "/dev/null", "-w")
    blob = git(repo, "hash-object", "-w", "a.txt")
    tree = ours.run(repo.root, "mktree", input=f"100644 blob {blob}\tfresh.txt\n").out.strip()
    assert empty != tree
    orphan = git(repo, "commit-tree", "-m", "Root", tree)
    found = propose(repo, orphan, "rebase")
    assert {"fresh.txt", "a.txt"} <= set(files(repo, found.result_sha))


# --- advancing ---


class Landing:
    """A proposal that changes a.txt and adds new.txt, ready to land on `main`."""

    def __init__(self, repo: Repo, work: Work) -> None:
        self.repo = repo
        text = (repo.root / "a.txt").read_text().replace("line 4", "LINE 4")
        candidate = work.commit({"a.txt": text, "new.txt": "new\n"})
        self.old = git(repo, "rev-parse", "main")
        self.new = propose(repo, candidate).result_sha

    def advance(self) -> Advance:
        return merging.advance(self.repo.root, base="main", old=self.old, new=self.new)

    def refuses(self, why: str) -> str:
        """It waits with `why`, and nothing of the user's changed. The detail."""
        before = snapshot(self.repo)
        found = self.advance()
        assert (found.done, found.waits) == (False, why), found
        assert found.detail
        assert snapshot(self.repo) == before
        return found.detail

    def landed(self) -> bool:
        return git(self.repo, "rev-parse", "main") == self.new


def snapshot(repo: Repo) -> tuple[object, ...]:
    """Everything of a user's checkout that a landing might disturb."""
    content = {
        str(path): path.read_bytes()
        for path in repo.root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(repo.root).parts
    }
    state = git(repo, "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--ignored")
    return content, state, git(repo, "for-each-ref"), git(repo, "stash", "list")


@pytest.fixture
def landing(repo: Repo, work: Work) -> Landing:
    return Landing(repo, work)


def test_the_users_clean_checkout_follows_and_hooks_run(repo: Repo, landing: Landing) -> None:
    hook = repo.root / ".git/hooks/post-merge"
    hook.write_text(f'#!/bin/sh\necho heard "$LC_ALL" > {repo.root.parent}/heard\necho to people >&2\nexit 1\n')
    hook.chmod(0o755)
    assert landing.advance() == Advance(True, "", "to people")
    assert landing.landed() and git(repo, "status", "--porcelain") == ""
    assert (repo.root / "new.txt").read_text() == "new\n"
    assert (repo.root.parent / "heard").exists()
    assert landing.advance().done  # again: it is there already


def test_landing_in_the_users_checkout_takes_one_process(
    repo: Repo, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = repo.root.parent / "trace"
    monkeypatch.setenv("GIT_TRACE2", str(trace))
    assert landing.advance().done
    assert len([row for row in trace.read_text().splitlines() if " start " in row]) == 1


def test_work_elsewhere_in_the_checkout_stays_as_it_is(repo: Repo, landing: Landing) -> None:
    (repo.root / "README.md").write_text("unsaved\n")
    (repo.root / "staged").write_text("staged\n")
    git(repo, "add", "staged")
    (repo.root / "untracked").write_text("mine\n")
    before = git(repo, "status", "--porcelain")
    assert landing.advance() == Advance(True, "", "")
    assert landing.landed() and git(repo, "status", "--porcelain") == before
    assert (repo.root / "README.md").read_text() == "unsaved\n"


@pytest.mark.parametrize("config", ["", "merge.autoStash=true", "branch.main.mergeOptions=--squash --no-ff"])
def test_uncommitted_work_in_the_way_waits(repo: Repo, landing: Landing, config: str) -> None:
    if config:
        git(repo, "config", *config.split("=", 1))
    (repo.root / "a.txt").write_text("unsaved\n")
    assert "a.txt" in landing.refuses("dirty")
    git(repo, "add", "a.txt")
    landing.refuses("dirty")
    git(repo, "reset", "-q", "--hard")
    (repo.root / "new.txt").write_text("untracked and precious\n")
    landing.refuses("dirty")
    (repo.root / "new.txt").unlink()
    assert landing.advance().done and git(repo, "status", "--porcelain") == ""


def test_an_ignored_file_of_the_user_is_not_overwritten(repo: Repo, work: Work) -> None:
    (work.repo.root / ".gitignore").unlink()
    candidate = work.commit({"debug.log": "from the agent\n"})
    (repo.root / "debug.log").write_text("precious\n")
    old, new = git(repo, "rev-parse", "main"), propose(repo, candidate).result_sha
    found = merging.advance(repo.root, base="main", old=old, new=new)
    assert (found.done, found.waits) == (False, "dirty")
    assert (repo.root / "debug.log").read_text() == "precious\n"


def _stop_in(command: str) -> Callable[[Repo], None]:
    def stop(repo: Repo) -> None:
        git(repo, *command.split(), "side", ok=(1, 128))

    return stop


def _bisect(repo: Repo) -> None:
    git(repo, "bisect", "start", "main", "main~1")


def _lock(repo: Repo) -> None:
    (repo.root / ".git/index.lock").touch()


@pytest.mark.parametrize(
    ("why", "begin"),
    [
        ("rebase", _stop_in("rebase")),
        ("merge", _stop_in("merge")),
        ("cherry-pick", _stop_in("cherry-pick")),
        ("revert", _stop_in("revert --no-edit")),
        ("bisect", _bisect),
        ("lock", _lock),
    ],
)
def test_what_the_user_is_doing_is_waited_for(repo: Repo, work: Work, why: str, begin: Callable[[Repo], None]) -> None:
    git(repo, "branch", "side")
    commit(repo, {"README.md": "main\n"})
    git(repo, "checkout", "-q", "side")
    commit(repo, {"README.md": "side\n"})
    git(repo, "checkout", "-q", "main")
    landing = Landing(repo, work)
    begin(repo)
    landing.refuses(why)
    assert why != "lock" or (repo.root / ".git/index.lock").exists()


def test_nobody_has_the_base_checked_out(repo: Repo, landing: Landing) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    before = git(repo, "status", "--porcelain=v2", "--branch")
    assert landing.advance() == Advance(True, "", "")
    assert landing.landed() and git(repo, "status", "--porcelain=v2", "--branch") == before
    assert "octopoid" in git(repo, "reflog", "-1", "main")


def test_a_lock_on_the_ref_is_waited_for(repo: Repo, landing: Landing) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    lock = repo.root / ".git/refs/heads/main.lock"
    lock.touch()
    assert landing.refuses("lock")
    lock.unlink()
    git(repo, "checkout", "-q", "main")
    lock.touch()
    assert landing.advance().waits == "lock"
    assert git(repo, "rev-parse", "main") == landing.old and lock.exists()


def test_a_hook_that_forbids_the_move_is_a_refusal(repo: Repo, landing: Landing) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    hook = repo.root / ".git/hooks/reference-transaction"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    landing.refuses("refused")


def test_a_commit_that_the_user_must_sign_is_a_refusal(repo: Repo, landing: Landing) -> None:
    git(repo, "config", "merge.verifySignatures", "true")
    landing.refuses("refused")


def test_the_base_in_a_second_worktree_follows_there(repo: Repo, landing: Landing, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    second = tmp_path / "second wörktree"
    git(repo, "worktree", "add", "-q", second, "main")
    (second / "a.txt").write_text("unsaved\n")
    assert str(second) in landing.refuses("dirty")
    git(repo, "checkout", "-q", "a.txt", at=second)
    assert landing.advance() == Advance(True, "", "")
    assert git(repo, "status", "--porcelain", at=second) == "" and (second / "new.txt").exists()
    assert not (repo.root / "new.txt").exists()


def test_two_checkouts_of_the_base_must_both_be_free(repo: Repo, landing: Landing, tmp_path: Path) -> None:
    second = tmp_path / "second"
    git(repo, "worktree", "add", "-q", "--force", second, "main")
    (second / "a.txt").write_text("unsaved\n")
    assert str(second) in landing.refuses("dirty")
    git(repo, "checkout", "-q", "a.txt", at=second)
    assert landing.advance() == Advance(True, "", "")
    for place in (repo.root, second):
        assert git(repo, "status", "--porcelain", at=place) == "" and (place / "new.txt").exists()


def test_a_checkout_that_is_not_there_now_is_waited_for(repo: Repo, landing: Landing, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    git(repo, "worktree", "add", "-q", tmp_path / "usb", "main")
    git(repo, "worktree", "lock", tmp_path / "usb")
    (tmp_path / "usb").rename(tmp_path / "away")
    landing.refuses("missing")
    git(repo, "worktree", "unlock", tmp_path / "usb")
    assert landing.advance().done


def test_an_agent_that_switched_to_the_base_is_taken_off_it(repo: Repo, landing: Landing, work: Work) -> None:
    git(repo, "checkout", "-q", "-b", "elsewhere")
    git(repo, "checkout", "-q", "main", at=work.repo.root)
    (repo.root / ".git/worktrees/work" / MARK).touch()
    assert landing.advance() == Advance(True, "", "")
    assert landing.landed()
    assert git(work.repo, "rev-parse", "HEAD") == landing.old
    assert git(work.repo, "symbolic-ref", "-q", "HEAD", ok=(1,)) == "" and git(work.repo, "status", "--porcelain") == ""


def test_a_base_that_moved_or_is_gone_is_looked_at_again(repo: Repo, landing: Landing) -> None:
    commit(repo, {"other": "x\n"})
    landing.refuses("moved")
    git(repo, "checkout", "-q", "--detach")
    git(repo, "branch", "-D", "main")
    landing.refuses("moved")


def test_what_is_no_descendant_never_lands(repo: Repo, landing: Landing) -> None:
    orphan = git(repo, "commit-tree", "-m", "x", "HEAD^{tree}")
    before = snapshot(repo)
    found = merging.advance(repo.root, base="main", old=landing.old, new=orphan)
    assert (found.done, found.waits) == (False, "refused")
    assert snapshot(repo) == before


def test_of_two_who_advance_at_once_one_wins(repo: Repo) -> None:
    """Compare-and-swap, by real git processes, in a checkout and without one."""
    for name in ("main", "elsewhere"):
        if name != "main":
            git(repo, "checkout", "-q", "-b", name)
        for _ in range(3):
            old = git(repo, "rev-parse", "main")
            tree = git(repo, "rev-parse", "main^{tree}")
            new = [git(repo, "commit-tree", "-p", old, "-m", f"{number}", tree) for number in range(4)]
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(lambda one: merging.advance(repo.root, base="main", old=old, new=one), new))  # noqa: B023 - used up in this round
            winners = [one for one, answer in zip(new, found, strict=True) if answer.done]
            assert winners == [git(repo, "rev-parse", "main")], found
            assert {answer.waits for answer in found if not answer.done} <= {"moved", "lock", "refused"}
        assert git(repo, "status", "--porcelain") == ""


# --- healing ---


def test_a_fast_forward_that_died_before_the_ref_is_finished(repo: Repo, landing: Landing) -> None:
    git(repo, "read-tree", "-m", "-u", landing.old, landing.new)  # the index is new, the branch is not
    assert git(repo, "status", "--porcelain") != ""
    (repo.root / "untracked").write_text("mine\n")
    assert merging.heal_fast_forward(repo.root, "main", landing.new)
    assert landing.landed() and git(repo, "status", "--porcelain") == "?? untracked"
    assert not merging.heal_fast_forward(repo.root, "main", landing.new)


def test_healing_leaves_everything_else_alone(repo: Repo, landing: Landing) -> None:
    before = snapshot(repo)
    assert not merging.heal_fast_forward(repo.root, "main", landing.new)
    (repo.root / "a.txt").write_text("unsaved\n")
    git(repo, "add", "a.txt")
    assert not merging.heal_fast_forward(repo.root, "main", landing.new)
    git(repo, "reset", "-q", "--hard")
    git(repo, "read-tree", "-m", "-u", landing.old, landing.new)
    (repo.root / ".git/index.lock").touch()
    assert not merging.heal_fast_forward(repo.root, "main", landing.new)
    (repo.root / ".git/index.lock").unlink()
    git(repo, "reset", "-q", "--hard")
    assert snapshot(repo) == before
    git(repo, "checkout", "-q", "-b", "elsewhere")
    assert not merging.heal_fast_forward(repo.root, "main", landing.new)


# --- refs ---


@pytest.mark.parametrize("task", ["add-login-7f3k", "a..b", "x.lock", "end."])
def test_results_are_kept_under_a_ref_whatever_the_task_is_called(repo: Repo, landing: Landing, task: str) -> None:
    merging.keep_ref(repo.root, task, landing.new)
    assert ours.ref_sha(repo.root, merging.ref_of(task)) == landing.new
    assert git(repo, "for-each-ref", "--format=%(objectname)", "refs/octopoid") == landing.new
    merging.drop_ref(repo.root, task)
    merging.drop_ref(repo.root, task)
    assert git(repo, "for-each-ref", "refs/octopoid") == ""
    assert merging.publish_branch(repo.root, task, landing.new).startswith("octopoid/")


def test_refs_of_different_tasks_differ() -> None:
    names = ["a..b", "a.b", "a.-b", "x.lock", "x-lock"]
    assert len({merging.ref_of(name) for name in names}) == len(names)


def test_a_published_branch_never_loses_what_somebody_put_there(repo: Repo, landing: Landing) -> None:
    assert merging.publish_branch(repo.root, "t", landing.old) == "octopoid/t"
    assert merging.publish_branch(repo.root, "t", landing.new) == "octopoid/t"  # it grew
    assert git(repo, "rev-parse", "octopoid/t") == landing.new
    assert merging.publish_branch(repo.root, "t", landing.new) == "octopoid/t"
    other = git(repo, "commit-tree", "-p", landing.old, "-m", "x", "HEAD^{tree}")
    assert merging.publish_branch(repo.root, "t", other) == "octopoid/t-2"
    assert git(repo, "rev-parse", "octopoid/t") == landing.new
    git(repo, "checkout", "-q", "octopoid/t-2")
    onward = git(repo, "commit-tree", "-p", other, "-m", "x", "HEAD^{tree}")
    assert merging.publish_branch(repo.root, "t", onward) == "octopoid/t-3"  # somebody looks at -2
    assert git(repo, "status", "--porcelain") == ""


def test_text_never_becomes_an_option_or_a_command(repo: Repo, work: Work) -> None:
    canary = repo.root.parent / "canary"
    candidate = work.commit({"--upload-pack=x": f"$(touch {canary})"}, "--amend `touch x`")
    found = merging.propose(
        repo.root,
        onto=git(repo, "rev-parse", "main"),
        candidate=candidate,
        mode="merge",
        title=f"--file=/etc/passwd $(touch {canary})",
        body="",
        trailers=(("Octopoid-Task", "x\nEvil: y"),),
        now=time.time(),
    )
    assert show(repo, found.result_sha, "%s").startswith("--file=/etc/passwd $(touch")
    assert show(repo, found.result_sha, "%(trailers:key=Evil)").strip() == ""
    for bad in ("--all", "main;touch x", "../main"):
        with pytest.raises(UsageError):
            merging.advance(repo.root, base=bad, old=found.onto, new=found.result_sha)
    assert not canary.exists() and shutil.which("git")
