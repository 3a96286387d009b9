"""`octopoid instructions`, and the note for agents in AGENTS.md: what they say, and what they leave alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import Repo, commit, drop, git, init, script
from test_init import answer_on_terminal, files

from octopoid import agentnote, instructions, rolefiles, schemas
from octopoid.agentnote import BEGIN, END, Done
from octopoid.cli.app import COMMANDS
from octopoid.errors import Conflict
from octopoid.results import OUTCOMES

# --- what agents are told ---


def listed(text: str, heading: str) -> list[str]:
    """The names in backticks that begin the items of the list below `heading`."""
    below = text.split(heading, 1)[1].lstrip("\n").split("\n\n")[0]
    return re.findall(r"^- `([^`]+)`", below, re.MULTILINE)


def test_it_is_there_everywhere_and_says_the_fields_of_the_result(repo: Repo, tmp_path: Path) -> None:
    inside, outside = repo.octopoid("instructions"), repo.octopoid("instructions", cwd=tmp_path)
    assert inside.out == outside.out == instructions.general().rstrip("\n") + "\n" and inside.err == ""
    fields = schemas.of("result")["properties"]
    assert listed(inside.out, "(`octopoid schema result`):\n") == list(fields)
    assert all(re.search(rf"^- `{name}`: .+\. [A-Z].+\.$", inside.out, re.MULTILINE) for name in fields)
    assert listed(inside.out, "Outcomes:\n") == list(OUTCOMES)
    assert all(len(line) <= 120 for line in agentnote.NOTE.splitlines())


def test_the_environment_it_names_is_the_one_that_agents_get(repo: Repo) -> None:
    told = [{"run": "env > env.txt; octopoid instructions > told.txt"}, {"commit": "Told"}]
    script(repo, {"tasks": {"default": {"default": [told]}}})
    drop(repo, "theme", "# Theme\n")
    repo.octopoid("run", "--until-empty")
    names = {line.partition("=")[0] for line in git(repo, "show", "main:env.txt").splitlines()}
    ours = {name for name in names if name.startswith("OCTOPOID_")}
    assert ours == set(instructions.ENVIRONMENT)
    text = git(repo, "show", "main:told.txt")
    assert set(listed(text, "Besides:\n")) == ours
    assert set(re.findall(r"\bOCTOPOID_\w+", text)) <= ours


def test_every_command_that_it_names_is_there() -> None:
    said = re.findall(r"`octopoid ([a-z]+)", instructions.general() + agentnote.NOTE)
    assert len(said) > 5 and set(said) <= set(COMMANDS)


@pytest.mark.parametrize("name", rolefiles.builtin_names())
def test_a_role_is_told_with_the_words_of_its_own(name: str) -> None:
    role = rolefiles.builtin(name)[0]
    text = instructions.of_role(role, None)
    assert f"## Your role: {name}" in text and role.description[1:] in text
    own = text.split("```markdown\n")[1]
    assert "{%" not in text and "{{" not in text
    assert "## What to hand in" not in own and "## Your verdict" not in own  # these are about one task
    assert (role.artifact or "It produces") in text
    assert ("may change files" in text) == (role.writes and role.produces == "commits")


def test_in_a_repository_a_role_is_the_policy_s_with_its_flows_and_agents(repo: Repo, tmp_path: Path) -> None:
    script(repo, {"tasks": {}}, agents={"team": {"roles": "all", "adapter": "scripted", "script": "s.json"}})
    repo.layout.roles.mkdir(exist_ok=True)
    role = (
        '---\ndescription: keeps the interface\nproduces: verdict\n---\nGuard `{{ base }}`.\n\n{% include "given" %}\n'
    )
    (repo.layout.roles / "guard.md").write_text(role)
    text = repo.octopoid("instructions", "guard").out
    assert "Keeps the interface." in text and "Guard `main`." in text and "Agents that play it: team." in text
    text = repo.octopoid("instructions", "gatekeeper").out
    assert re.search(r"- Used by flow `[a-z-]+`: gate\.", text)
    assert "stage `implement`" in repo.octopoid("instructions", "implementer").out
    assert "conflicts with the base branch" in repo.octopoid("instructions", "rebaser").out
    wrong = repo.octopoid("instructions", "gard", ok=[3]).err
    assert "did you mean `guard`?" in wrong
    assert "did you mean `planner`?" in repo.octopoid("instructions", "planer", cwd=tmp_path, ok=[3]).err
    repo.layout.agents_yaml.write_text("versoin: 1\n")
    answer = repo.octopoid("instructions", "planner")
    assert "what the policy says is left out" in answer.err and "plan.md" in answer.out


def test_a_claude_code_agent_is_a_role_too(repo: Repo) -> None:
    place = repo.root / ".claude/agents"
    place.mkdir(parents=True)
    (place / "painter.md").write_text("---\nname: painter\ndescription: paints\n---\nYou paint {{ walls }}.\n")
    agents = {"one": {"role": "painter", "adapter": "scripted", "script": "s.json"}, "two": {"role": "implementer"}}
    agents["two"] |= {"adapter": "scripted", "script": "s.json"}
    script(repo, {"tasks": {}}, agents=agents)
    assert "You paint {{ walls }}." in repo.octopoid("instructions", "painter").out


# --- the note ---

NOTE = agentnote.put(b"")
LF, CRLF, BOM = b"# Ours\n\nBe kind.\n", b"# Ours\r\n\r\nBe kind.\r\n", b"\xef\xbb\xbf# Ours\n"


def test_the_note_is_between_its_markers_and_names_the_command() -> None:
    assert NOTE.startswith(BEGIN + b"\n") and NOTE.endswith(b"\n" + END + b"\n")
    assert b"octopoid instructions" in NOTE and b"octopoid enqueue" in NOTE and b".octopoid/queue" in NOTE


@pytest.mark.parametrize("before", [LF, CRLF, BOM, b"# Ours", b"# Ours\n\n", b"\xef\xbb\xbf", b"bad \xff byte\n"])
def test_what_was_there_stays_byte_for_byte(before: bytes) -> None:
    after = agentnote.put(before)
    assert after.startswith(before) and agentnote.put(after) == after
    ends = after.count(b"\r\n")
    assert ends == (after.count(b"\n") if b"\r\n" in before else 0)
    assert after.endswith(b"\n") == (before.endswith(b"\n") or before in (b"", b"\xef\xbb\xbf"))
    text = before.removeprefix(b"\xef\xbb\xbf")
    assert not text or re.search(rb"\n\r?\n" + BEGIN, after)  # an empty line before it


def test_an_old_note_is_replaced_where_it_stands() -> None:
    old = b"# Ours\r\n\r\n" + BEGIN + b"\r\nold\r\n" + END + b" more\r\nafter"
    after = agentnote.put(old)
    note = after[after.index(BEGIN) : after.index(END)]
    assert after.startswith(b"# Ours\r\n\r\n" + BEGIN) and after.endswith(END + b" more\r\nafter")
    assert b"old" not in note and note.count(b"\n") == note.count(b"\r\n") > 5


@pytest.mark.parametrize("broken", [BEGIN, END, END + b"\n" + BEGIN, (BEGIN + END) * 2, b"a\0b"])
def test_a_file_that_is_not_understood_is_left_alone(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "AGENTS.md").write_bytes(b"# Ours\n" + broken)
    with pytest.raises(Conflict, match=r"AGENTS\.md"):
        agentnote.write(tmp_path)
    assert (tmp_path / "AGENTS.md").read_bytes() == b"# Ours\n" + broken and os.listdir(tmp_path) == ["AGENTS.md"]


def test_mode_and_links_within_the_repository_are_kept_and_others_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / ".git").mkdir(parents=True)
    (root / "CLAUDE.md").write_bytes(LF)
    (root / "CLAUDE.md").chmod(0o600)
    (root / "AGENTS.md").symlink_to("CLAUDE.md")
    assert agentnote.write(root) == (root / "CLAUDE.md", Done.ADDED)
    assert agentnote.write(root) == (root / "CLAUDE.md", Done.SAME) and agentnote.is_there(root)
    assert (root / "AGENTS.md").is_symlink() and (root / "CLAUDE.md").stat().st_mode & 0o777 == 0o600
    for target in (tmp_path / "outside.md", root / ".git/x.md"):
        (root / "AGENTS.md").unlink()
        (root / "AGENTS.md").symlink_to(target)
        with pytest.raises(Conflict, match="leads out of the repository"):
            agentnote.write(root)
        assert not target.exists() and not agentnote.is_there(root)
    (root / "AGENTS.md").unlink()
    os.mkfifo(root / "AGENTS.md")
    with pytest.raises(Conflict, match="is not a file"):
        agentnote.write(root)


def test_init_writes_it_only_where_that_is_said(repo: Repo) -> None:
    note = repo.root / "AGENTS.md"
    repo.octopoid("init", "-y")
    assert not note.exists()
    before = files(repo)
    answer = repo.octopoid("init", "-y", "--agents-md")
    assert "AGENTS.md: added a note for agents" in answer.out and "git diff AGENTS.md" in answer.err
    assert note.read_bytes() == NOTE and files(repo) == before
    assert "?? AGENTS.md" in git(repo, "status", "--porcelain")
    assert "its note for agents is up to date" in repo.octopoid("init", "--agents-md").out
    note.write_bytes(NOTE.replace(b"Octopoid", b"Octopus") + b"\nMore.\n")
    assert "brought the note for agents up to date" in repo.octopoid("init", "-y", "--agents-md").out
    assert note.read_bytes() == NOTE + b"\nMore.\n" and files(repo) == before
    note.write_bytes(BEGIN)
    assert "AGENTS.md:1" in repo.octopoid("init", "--agents-md", ok=[5]).err


def test_init_from_a_subfolder_writes_into_the_root(repo: Repo) -> None:
    commit(repo, {"src/a.txt": "a\n"})
    repo.octopoid("init", "-y", "--agents-md", cwd=repo.root / "src")
    assert (repo.root / "AGENTS.md").exists() and not (repo.root / "src/AGENTS.md").exists()


def test_on_a_terminal_it_asks_and_no_is_the_default(repo: Repo) -> None:
    usual = ("", "", "")
    for replies, written in (((*usual, ""), False), ((*usual, "y"), True), (usual, True)):
        if repo.layout.agents_yaml.exists():
            repo.layout.agents_yaml.unlink()
        status, seen = answer_on_terminal(repo, "init", replies=replies)
        assert status == 0, seen
        assert (repo.root / "AGENTS.md").exists() == written
        assert ("Write a note for agents into AGENTS.md [y/N]: " in seen) == (replies != usual)


def test_who_writes_code_is_sent_to_the_project_s_own_instructions(repo: Repo) -> None:
    init(repo)
    for name in ("implementer", "documenter"):
        prompt = repo.octopoid("roles", name).out
        assert "the repository's own instructions (`AGENTS.md`" in prompt
