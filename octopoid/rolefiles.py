"""Role files: a header and a prompt template → Role. The built-in ones are in `roles/` next to this module."""

from __future__ import annotations

from pathlib import Path

from octopoid.configkeys import GATE_WORDS, ROLE
from octopoid.configread import NAME, Reader, invalid, read_text
from octopoid.model import Problem
from octopoid.settings import Role
from octopoid.yamltext import Node, load

BUILT_IN = Path(__file__).parent / "roles"


def parse(path: Path, data: bytes, source: str) -> Role:
    """The role that the file `path` defines; its name is the file's stem.

    In `Role.template` empty lines stand for the header, so that line numbers of the template are those of the file;
    `prompts.render` drops them. Raises Invalid with every Problem of the header.
    """
    name = path.stem
    if not NAME.match(name) or name in GATE_WORDS:
        taken = " (a gate of that name exists)" if name in GATE_WORDS else ""
        message = f"`{name}` cannot be a role's name{taken}"
        raise invalid(Problem(path, 0, 0, message, "name the file like `reviewer.md`: a-z, 0-9 and -"))
    header, first_line, template = _split(path, read_text(path, data))
    reader = Reader(path)
    node = load(header, path, first_line) if header.strip() else Node(None, 1, 1)
    values = reader.section(node, ROLE, "")
    if not template.strip():
        reader.complain((0, 0), "the prompt is empty", "write below the header what the agent is to do")
    if reader.problems:
        raise invalid(*reader.problems)
    writes = values.pop("writes")
    writes = values["produces"] == "commits" if writes is None else writes
    return Role(name, template, writes=writes, source=source, **values)


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


def _split(path: Path, text: str) -> tuple[str, int, str]:
    """The header, the line it starts on, and the template with empty lines in the header's place."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != "---":
        return "", 1, "\n".join(lines)
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), 2, "\n" * (number + 1) + "\n".join(lines[number + 1 :])
    raise invalid(Problem(path, 1, 1, "the header has no end", "close it with a line `---`"))
