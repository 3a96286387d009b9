"""Gates: who must say yes. The same in agents.yaml and in flow files."""

from __future__ import annotations

from octopoid.configkeys import GATE, GATE_WORDS
from octopoid.configread import Reader, listed
from octopoid.configroles import Cast
from octopoid.hints import nearest
from octopoid.settings import Gate
from octopoid.yamltext import Node

Groups = tuple[tuple[Gate, ...], ...]


def gates(reader: Reader, node: Node, cast: Cast, lacks: list[str] | None = None) -> Groups:
    """Groups of gates that somebody can answer, each gate once.

    `lacks`, of a built-in flow: takes the roles that cannot answer, in place of problems; advisory ones are left out.
    """
    groups: list[tuple[Gate, ...]] = []
    taken: set[str] = set()
    for one in reader.items(node, "gates", "write [checks, human]"):
        nested = isinstance(one.value, list)
        items = one.value if isinstance(one.value, list) else [one]
        if nested and not items:
            reader.complain(one, "a group of gates is empty", "take it out")
        found = [_gate(reader, item, cast, taken, lacks) for item in items]
        group = tuple(gate for gate in found if gate is not None)
        groups += [group] if group else []
    return tuple(groups)


def _gate(reader: Reader, node: Node, cast: Cast, taken: set[str], lacks: list[str] | None) -> Gate | None:
    place, gate = node, Gate("")
    if isinstance(node.value, str):
        gate = Gate(node.value)
    elif isinstance(node.value, dict):
        said = reader.section(node, GATE, "gates[]", (node.line, node.column))
        gate = Gate(said["gate"], said["required"])
        place = node.value.get("gate", node)
        if gate.name is None:
            return None
    else:
        what = (
            "groups stand side by side" if isinstance(node.value, list) else "`checks`, `human` or the name of a role"
        )
        reader.complain(node, "a gate must be a word", what)
        return None
    if gate.name in taken:
        reader.complain(place, f"the gate `{gate.name}` is there twice", "keep one of them")
        return None
    taken.add(gate.name)
    if gate.name in GATE_WORDS:
        return _word(reader, place, gate)
    wrong = _cannot_judge(gate.name, cast)
    if wrong and lacks is not None:
        lacks += [gate.name] if gate.required else []
        return gate if gate.required else None
    if wrong:
        reader.complain(place, *wrong)
    return gate


def _word(reader: Reader, place: Node, gate: Gate) -> Gate:
    if not gate.required:
        reader.complain(place, f"the gate `{gate.name}` is always required", "take `required` out, or the gate")
    return gate


def _cannot_judge(name: str, cast: Cast) -> tuple[str, str] | None:
    """Message and hint when nobody could ever answer the gate."""
    role = cast.roles.get(name)
    if name not in cast.roles.names:
        return f"unknown gate `{name}`", nearest(name, (*GATE_WORDS, *cast.roles.judges()))
    if role is not None and role.produces not in ("verdict", "any"):
        hint = f"roles that do: {listed(cast.roles.judges())}"
        return f"the role `{name}` produces {role.produces}, not a verdict", hint
    if not cast.plays(name):
        message = f"nobody can answer the gate `{name}`: no agent has that role"
        return message, f"add an agent with `role: {name}`, or take the gate out"
    return None
