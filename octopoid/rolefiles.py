"""Role files: a header and a prompt template → Role. The built-in ones are in `roles/` next to this module.

The agents of Claude Code (`.claude/agents/*.md`) are roles too. Their text is no template, and they produce what they
are used for.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from octopoid import regular
from octopoid.configkeys import GATE_WORDS, ROLE
from octopoid.configread import ARTIFACT, NAME, Reader, invalid, read_text
from octopoid.configsandbox import WIDENING, laid_over
from octopoid.errors import Invalid
from octopoid.model import Problem
from octopoid.settings import ALL, Role, Sandbox
from octopoid.yamltext import Node, load, refuse_bombs

if TYPE_CHECKING:
    from frontmatter import Post

BUILT_IN = Path(__file__).parent / "roles"
PARTS = BUILT_IN / "parts"
ANY = "any"
"""What a Claude Code agent produces: what its stage or gate asks for."""

_RESERVED = (*GATE_WORDS, ALL)
_WRITING = frozenset(("Edit", "Write", "MultiEdit", "NotebookEdit", "Bash"))
_DOCUMENTS = ("document", "verdict")  # a verdict that is no gate's is written down
_MAX_DESCRIPTION = 300
_NAME_LINE = re.compile(r"^name:[ \t]+(['\"]?)([a-z0-9-]+)\1[ \t]*(?:#.*)?$", re.MULTILINE)
_PLAIN_VALUE = re.compile(r"^([A-Za-z][\w-]*):[ \t]+(?![\"'|>\[{#&*!])(.*\S)[ \t]*$", re.MULTILINE)


def parse(path: Path, data: bytes, source: str) -> Role:
    """The role that the file `path` defines; its name is the file's stem.

    In `Role.template` empty lines stand for the header, so that line numbers of the template are those of the file;
    `prompts.render` drops them. Raises Invalid with every Problem of the header.
    """
    name = path.stem
    if not _may_be_called(name):
        taken = " (the word means something else)" if name in _RESERVED else ""
        message = f"`{name}` cannot be a role's name{taken}"
        raise invalid(Problem(path, 0, 0, message, "name the file like `reviewer.md`: a-z, 0-9 and -"))
    header, first_line, template = _split(path, read_text(path, data))
    reader = Reader(path)
    node = load(header, path, first_line) if header.strip() else Node(None, 1, 1)
    values = reader.section(node, ROLE, "")
    _agree(reader, node, values)
    if not template.strip():
        reader.complain((0, 0), "the prompt is empty", "write below the header what the agent is to do")
    if reader.problems:
        raise invalid(*reader.problems)
    writes = values.pop("writes")
    writes = values["produces"] == "commits" if writes is None else writes
    if values["produces"] == "document":
        values["artifact"] = values["artifact"] or f"{name}.md"
    sandbox = laid_over(Sandbox(), values.pop("sandbox"))
    return Role(name, template, writes=writes, source=source, sandbox=sandbox, **values)


def builtin_names() -> tuple[str, ...]:
    """The roles that are there without any file of the user's."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.md")))


def builtin(name: str) -> tuple[Role, bytes]:
    """A built-in role and the bytes it was read from. Raises FileNotFoundError."""
    path = BUILT_IN / f"{name}.md"
    data = path.read_bytes()
    return parse(path, data, "built-in"), data


def source_path(role: Role) -> Path:
    """The file of `role`, for messages."""
    return BUILT_IN / f"{role.name}.md" if role.source == "built-in" else Path(role.source)


def part_names() -> tuple[str, ...]:
    """The parts that every template may include."""
    return tuple(sorted(path.stem for path in PARTS.glob("*.md")))


@lru_cache(maxsize=64)
def part(name: str) -> str | None:
    """The template of a part, None where there is none of that name.

    It brings the empty line after it along, unless it ends with a tag, which says itself whether there is one.
    """
    if name not in part_names():
        return None
    text = (PARTS / f"{name}.md").read_text(encoding="utf-8").rstrip("\n")
    return f"{text}\n" if text.endswith("%}") else f"{text}\n\n"


# --- Claude Code's agents ----------------------------------------------------------------------------------------


def claude_agent(path: Path, data: bytes) -> Role:
    """The role that an agent file of Claude Code means. Its other keys are Claude's own.

    It writes unless its `tools` leave nothing to write with. Raises Invalid with the place of what is wrong.
    """
    text = read_text(path, data)
    name, post = _claude_name(path, text), _front_matter(path, text)
    said = {key: post.metadata.get(key) for key in ("description", "tools", "model")}
    reader = Reader(path)
    if not _may_be_called(name):
        hint = "give it a `name`: a-z, 0-9 and -"
        reader.complain((0, 0), f"`{path.stem}` cannot be a role's name", hint)
    if not post.content.strip():
        reader.complain((0, 0), "the prompt is empty", "write below the header what the agent is to do")
    tools = _tools(reader, said["tools"])
    if reader.problems:
        raise invalid(*reader.problems)
    model = said["model"] if isinstance(said["model"], str) and not said["model"].startswith("-") else ""
    description = said["description"] if isinstance(said["description"], str) else ""
    return Role(
        name,
        post.content,
        description=" ".join(description.replace("\\n", " ").split())[:_MAX_DESCRIPTION],
        produces=ANY,
        writes=not tools or any(one.partition("(")[0].strip() in _WRITING for one in tools),
        tools=tools,
        model="" if model == "inherit" else model,
        source=str(path),
        plain=True,
    )


def claude_agents(folder: Path) -> dict[str, Path]:
    """The agents in `folder` by name, sorted; empty where there is no such folder.

    A file that is wrong is listed too, so that naming it says what is wrong. Of two with one name the first counts.
    `frontmatter` is not loaded for this: every look at the policy asks for the names.
    """
    try:
        files = sorted(one for one in os.listdir(folder) if one.endswith(".md") and one[0] not in ".#~")
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for one in files:
        path = folder / one
        try:
            name = _claude_name(path, read_text(path, regular.read(path, follow=True)))
        except (Invalid, OSError):
            name = path.stem
        found.setdefault(name, path)
    return dict(sorted(found.items()))


def _claude_name(path: Path, text: str) -> str:
    """What its `name` says, where that can be a role's name, else the file's stem."""
    said = _NAME_LINE.search(_split(path, text)[0])
    return said[2] if said and _may_be_called(said[2]) else path.stem


def _front_matter(path: Path, text: str) -> Post:
    """The header and the text. Claude Code itself takes values with `: ` in them, which are no YAML: so do we."""
    import frontmatter

    header, _, _ = _split(path, text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        _refuse_bombs(header, path)
        return frontmatter.loads(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        try:
            quoted = _PLAIN_VALUE.sub(_quoted, header)
            _refuse_bombs(quoted, path)
            return frontmatter.loads(text.replace(header, quoted, 1))
        except (yaml.YAMLError, ValueError):
            raise invalid(_broken(path, error)) from None


def _refuse_bombs(header: str, path: Path) -> None:
    """The library takes aliases, and what is built of them takes all memory as soon as it is text."""
    with suppress(yaml.YAMLError):  # that it is broken is told by the library itself
        refuse_bombs(header, path, 2)


def _quoted(match: re.Match[str]) -> str:
    value = match[2].replace("'", "''")
    return f"{match[1]}: '{value}'"


def _broken(path: Path, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)  # its text begins behind the first `---`
    return Problem(path, line, column, f"broken YAML: {said}", "a value that contains `: ` needs quotes")


def _tools(reader: Reader, said: object) -> tuple[str, ...]:
    """A list, or text with commas. `*` and nothing at all are Claude's words for every tool."""
    words = [str(one) for one in said if one is not None] if isinstance(said, list) else [str(said or "")]
    found = [one for word in words for one in reader.tools(Node(word, 0, 0), "tools") or ()]
    return () if "*" in found else tuple(dict.fromkeys(found))


# --- our own -----------------------------------------------------------------------------------------------------


def _may_be_called(name: str) -> bool:
    return bool(NAME.match(name)) and name not in _RESERVED


def _agree(reader: Reader, node: Node, values: dict[str, Any]) -> None:
    """A document is named where one is written, files change where commits are made, documents are wanted."""
    fields = node.value if isinstance(node.value, dict) else {}
    produces = values["produces"]
    if "artifact" in fields and produces not in _DOCUMENTS:
        message = f"`artifact` means nothing to a role that produces {produces}"
        reader.complain(node.keys["artifact"], message, "remove it, or write produces: document")
    if values["writes"] and produces != "commits":
        message = f"`writes: true` means nothing to a role that produces {produces}: what it changes is thrown away"
        reader.complain(node.keys["writes"], message, "remove it, or write produces: commits")
    if values["proposals"] and produces != "tasks":
        message = f"`proposals: true` means nothing to a role that produces {produces}"
        reader.complain(node.keys["proposals"], message, "remove it, or write produces: tasks")
    said = fields["sandbox"] if values["sandbox"] else None
    for key in WIDENING if said else ():
        if key in values["sandbox"] and said is not None:
            reader.complain(
                said.keys[key], f"`{key}` is not a role's to say: it lets it do more", "say it of its agent"
            )
    for one in values["inputs"]:
        if not ARTIFACT.match(one):
            reader.complain(fields["inputs"], f"`{one}` is not a document's name", "a name like `plan.md`")


def _split(path: Path, text: str) -> tuple[str, int, str]:
    """The header, the line it starts on, and the template with empty lines in the header's place."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != "---":
        return "", 1, "\n".join(lines)
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), 2, "\n" * (number + 1) + "\n".join(lines[number + 1 :])
    raise invalid(Problem(path, 1, 1, "the header has no end", "close it with a line `---`"))
