"""What `sandbox:` says, in agents.yaml, in an agent or in a role's header: a word, or keys of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from octopoid.configkeys import SANDBOX
from octopoid.hints import nearest
from octopoid.settings import Sandbox

if TYPE_CHECKING:  # whoever starts something comes by here, without a policy to read
    from octopoid.configread import Reader
    from octopoid.yamltext import Node

MODES = ("off", "on", "required", "bwrap", "sandbox-exec")
"""From the weakest: the last three are equally strict."""

WIDENING = ("write", "read")
"""Keys that let a program do more: not for roles, whose files come from anywhere."""

_SIZE = re.compile(r"(\d{1,12})([kKMGT]?)i?B?\Z")
_UNITS = {"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}
_MOST = 1 << 20
_TOO_WIDE = ("", "~", "~/.", "..")


def sandbox(reader: Reader, node: Node, name: str) -> dict[str, Any] | None:
    """The keys that are said, by name; those that are not are another place's to say."""
    if not isinstance(node.value, dict):
        mode = sandboxing(reader, node, name)
        return None if mode is None else {"mode": mode}
    values = reader.section(node, SANDBOX, name, (node.line, node.column))
    return {key: values[key] for key in node.value if key in values}


def laid_over(sandbox: Sandbox, said: dict[str, Any]) -> Sandbox:
    """`sandbox` with what is `said` instead. `network: off` and the like alone turn it on: they mean nothing else."""
    found = sandbox._replace(**said)
    shuts = "mode" not in said and found.mode == "off" and bool({"network", "write", "read", "hide"} & said.keys())
    return found._replace(mode="on") if shuts else found


def sandboxing(reader: Reader, node: Node, name: str) -> str | None:
    """A mode. YAML reads `on` and `off` as true and false; who writes these means the same."""
    word = _switched(node.value)
    if word in MODES:
        return word
    hint = nearest(word, MODES) if isinstance(word, str) else ""
    reader.complain(node, f"`{name}` must be {', '.join(MODES[:-1])} or {MODES[-1]}", hint)
    return None


def switch(reader: Reader, node: Node, name: str) -> bool | None:
    """`on` or `off`."""
    word = _switched(node.value)
    if word in ("on", "off"):
        return word == "on"
    reader.complain(node, f"`{name}` must be on or off", nearest(word, ("on", "off")) if isinstance(word, str) else "")
    return None


def _switched(value: object) -> object:
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def places(reader: Reader, node: Node, name: str) -> tuple[str, ...] | None:
    """Absolute paths, or such that begin at home."""
    said = [reader.text(one, name) for one in reader.items(node, name, f"write {name}: [~/.cache/pip]")]
    for one, path in zip(node.value if isinstance(node.value, list) else (), said, strict=False):
        if path is None:
            continue
        if not path.startswith(("/", "~/")) or ".." in path.split("/"):
            reader.complain(one, f"`{name}` must be paths from `/` or `~/`", "like ~/.cache/pip")
        elif path.rstrip("/") in _TOO_WIDE:
            reader.complain(one, f"`{path}` is everything there is", "name the folder that is needed")
    return tuple(dict.fromkeys(path for path in said if path))


def size(reader: Reader, node: Node, name: str) -> int | None:
    """Bytes."""
    number = isinstance(node.value, int | str) and not isinstance(node.value, bool)
    said = _SIZE.match(str(node.value)) if number else None
    if said:
        return int(said[1]) << _UNITS[said[2]]
    reader.complain(node, f"`{name}` must be a number of bytes", "like 512M or 2G; 0 = no limit")
    return None


def upto(reader: Reader, node: Node, name: str) -> int | None:
    """A number that may be large."""
    if isinstance(node.value, int) and not isinstance(node.value, bool) and 0 <= node.value <= _MOST:
        return node.value
    reader.complain(node, f"`{name}` must be a whole number from 0 to {_MOST}", "like 512; 0 = no limit")
    return None


READERS: dict[str, Callable[[Reader, Node, str], Any]] = {
    "places": places,
    "sandbox": sandbox,
    "sandboxing": sandboxing,
    "size": size,
    "switch": switch,
    "upto": upto,
}


def stricter(one: Sandbox, other: Sandbox) -> Sandbox:
    """`one`, with everything in which `other` is stricter."""
    return one._replace(
        mode=max(one.mode, other.mode, key=_strictness),
        network=one.network and other.network,
        hide=tuple(dict.fromkeys((*one.hide, *other.hide))),
        memory=_less(one.memory, other.memory),
        processes=_less(one.processes, other.processes),
        file_size=_less(one.file_size, other.file_size),
        files=_less(one.files, other.files),
        cpu=float(_less(one.cpu, other.cpu)),
    )


def _strictness(mode: str) -> int:
    return min(MODES.index(mode), MODES.index("required"))


def _less(one: float, other: float) -> Any:
    return min((limit for limit in (one, other) if limit), default=0)
