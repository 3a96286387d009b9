"""`flows/*.yaml` → Flow. The built-in flows are in `flows/` next to this module.

A mistake in a file of the user's is a Problem with its place. A built-in flow has no mistakes; where roles that it
needs have no agent, or are replaced by roles of another kind, it cannot be used, and `Flow.lacks` says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import regular
from octopoid.configgates import Groups, gates
from octopoid.configkeys import FLOW, FOLLOW, STAGE
from octopoid.configread import NAME, Reader, fields, invalid, read_text
from octopoid.configroles import Cast, Lazily, names, unreadable
from octopoid.errors import Invalid
from octopoid.hints import nearest
from octopoid.model import Problem
from octopoid.settings import Flow, Follow, Role, Stage
from octopoid.yamltext import Node, load

BUILT_IN = Path(__file__).parent / "flows"
DEFAULT = "default"

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_PLACEHOLDERS = ("title", "id")
_NONE = Stage("", "")

_Place = Node | tuple[int, int]


class Defaults(NamedTuple):
    """What agents.yaml says for the flows that do not say it."""

    gates: Groups
    land: str


class Found(NamedTuple):
    """The flows. `names`: all that there are, be they valid or not; `read`: the user's files, with their content."""

    flows: Mapping[str, Flow]
    names: frozenset[str]
    problems: tuple[Problem, ...]
    read: tuple[tuple[str, bytes], ...]


class _Leads(NamedTuple):
    """Where one flow names another as what follows."""

    flow: str
    place: tuple[int, int]


def builtin_names() -> tuple[str, ...]:
    """The flows that are there without any file of the user's."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.yaml")))


def read_all(home: Path, cast: Cast, defaults: Defaults) -> Found:
    """The user's flows, and the built-in ones that no file of theirs replaces: these are read when they are used."""
    problems: list[Problem] = []
    there: dict[str, Flow] = {}
    read: list[tuple[str, bytes]] = []
    leads: dict[Path, list[_Leads]] = {}
    files = names(home, "flows", ".yaml", ".yml")
    built_in = builtin_names()
    known = frozenset((*built_in, *(Path(name).stem for name in files)))
    for name in files:
        path = home / name
        try:
            data = regular.read(path, follow=True)
            script = _Script(path, cast, defaults, known)
            there[path.stem] = script.flow(path.stem, _node(path, data), str(path))
        except Invalid as error:
            problems += error.problems
            continue
        except OSError as error:
            problems.append(unreadable(path, error))
            continue
        read.append((name, data))
        leads[path] = script.leads
        problems += sorted(script.reader.problems, key=lambda one: (one.line, one.column))

    def built(name: str) -> Flow:
        path = BUILT_IN / f"{name}.yaml"
        return _Script(path, cast, defaults, known, spare=True).flow(name, _node(path, path.read_bytes()), "built-in")

    flows = Lazily(there, (name for name in built_in if f"flows/{name}.yaml" not in files), built)
    problems += _circles(flows, leads)
    return Found(flows, known, tuple(problems), tuple(read))


def _node(path: Path, data: bytes) -> Node:
    if path.suffix != ".yaml":
        raise invalid(Problem(path, 0, 0, "a flow's file ends in `.yaml`", f"name it {path.stem}.yaml"))
    if not NAME.match(path.stem):
        message = f"`{path.stem}` cannot be a flow's name"
        raise invalid(Problem(path, 0, 0, message, "name the file like `feature.yaml`: a-z, 0-9 and -"))
    return load(read_text(path, data), path)


def _circles(flows: Mapping[str, Flow], leads: Mapping[Path, list[_Leads]]) -> Iterable[Problem]:
    """A task that makes a task of its own flow when it lands, at once or through others, would never end."""
    for path, named in leads.items():
        for one in named:
            way = _way(flows, one.flow, path.stem)
            if way:
                text = " → ".join(f"`{name}`" for name in (path.stem, *way))
                hint = "name a flow that nothing follows, like `quick`"
                yield Problem(path, *one.place, f"what follows never ends: {text}", hint)


def _way(flows: Mapping[str, Flow], start: str, goal: str) -> tuple[str, ...]:
    """The flows from `start` to `goal` by what follows after them, both included; nothing where there is no way."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        if way[-1] == goal:
            return way
        if way[-1] not in seen and way[-1] in flows:
            seen.add(way[-1])
            ways += [(*way, follow.flow) for follow in flows[way[-1]].after]
    return ()


# --- one flow ----------------------------------------------------------------------------------------------------


class _Script:
    """Reads one flow's file. `spare`: a built-in one, in which what roles cannot do is no problem but in `lacks`."""

    def __init__(self, path: Path, cast: Cast, defaults: Defaults, flows: frozenset[str], spare: bool = False) -> None:
        self.reader = Reader(path)
        self.leads: list[_Leads] = []
        self._cast = cast
        self._defaults = defaults
        self._flows = flows
        self._lacks: list[str] | None = [] if spare else None
        self._blind = False

    def flow(self, name: str, node: Node, source: str) -> Flow:
        """What the file says; with problems in `reader` it is not to be used."""
        said = fields(node)
        values = self.reader.section(node, FLOW, "")
        stages = self._stages(said["stages"]) if "stages" in said else ()
        works = _works(stages)
        return Flow(
            name,
            stages,
            self._gates(node, said, works or not stages),
            self._land(node, values["land"], works or not stages),
            values["description"],
            values["rounds"],
            self._conflicts(values["conflicts"], said),
            self._after(said["after"]) if "after" in said else (),
            tuple(dict.fromkeys(self._lacks or ())),
            source,
        )

    def _lack(self, role: str, place: _Place, message: str, hint: str = "") -> None:
        if self._lacks is None:
            self.reader.complain(place, message, hint)
        else:
            self._lacks.append(role)

    def _gates(self, node: Node, said: Mapping[str, Node], works: bool) -> Groups:
        if "gates" not in said:
            return self._defaults.gates if works else ()
        found = gates(self.reader, said["gates"], self._cast, self._lacks)
        if found and not works:
            message = "gates judge commits that are to land, and no stage makes any"
            self.reader.complain(node.keys["gates"], message, "a stage with `approval: true` waits for a person")
        return found

    def _land(self, node: Node, said: str, works: bool) -> str:
        if works:
            return said or self._defaults.land
        if said and said != "none":
            self.reader.complain(node.keys["land"], "no stage makes commits, so there is nothing to land", "remove it")
        return "none"

    def _conflicts(self, role: str, said: Mapping[str, Node]) -> str:
        if not role:
            return ""
        wrong = self._cannot_do(role)
        known = self._cast.roles.get(role)
        if not wrong and known and known.produces not in ("commits", "any"):
            wrong = (f"the role `{role}` produces {known.produces}, and a conflict is resolved by commits", "")
        if wrong and self._lacks is None:
            self.reader.complain(said["conflicts"], *wrong)
        return "" if wrong else role

    def _cannot_do(self, role: str) -> tuple[str, str] | None:
        """Message and hint when there is no such role, or nobody who plays it."""
        if role not in self._cast.roles.names:
            near = nearest(role, self._cast.roles.names)
            hint = "; ".join(filter(None, (near, f"a role is a file, roles/{role}.md")))
            return f"no file defines the role `{role}`", hint
        if not self._cast.plays(role):
            hint = f"add an agent with `role: {role}`, or one with `roles: all`"
            return f"no agent plays the role `{role}`, so nobody can do this", hint
        return None

    # stages

    def _stages(self, node: Node) -> tuple[Stage, ...]:
        items = self.reader.items(node, "stages", "write - {name: implement, role: implementer}")
        if isinstance(node.value, list) and not items:
            self.reader.complain(node, "there are no stages, so nothing would be done", "add one")
        stages: list[Stage] = []
        for one in items:
            stage = self._stage(one, stages, items)
            if stage.name:
                self._reach(one, stage, stages)
                stages.append(stage)
        return tuple(stages)

    def _reach(self, node: Node, stage: Stage, earlier: list[Stage]) -> None:
        """The stage is one that can come, and its work one that can land."""
        place = fields(node)["name"]
        if any(stage.name == other.name for other in earlier):
            message = f"a stage `{stage.name}` is there already, so this one would never be done"
            self.reader.complain(place, message, "give it a name of its own")
        end = next((other for other in earlier if other.produces == "tasks"), None)
        if end:
            message = f"the stage `{stage.name}` is never reached: `{end.name}` hands the work on to tasks of their own"
            self._lack(end.role, place, message, f"let `{end.name}` be the last one")
        if stage.produces == "tasks" and _works((*earlier, stage._replace(produces=""))):
            message = f"work done before `{stage.name}` would never land: what comes after it are tasks of their own"
            self._lack(stage.role, place, message, "leave the work to those tasks")

    def _stage(self, node: Node, earlier: list[Stage], items: list[Node]) -> Stage:
        """One stage; without a name where it says nothing that could be used."""
        if not isinstance(node.value, dict):
            self.reader.complain(node, "a stage must have keys", "write {name: implement, role: implementer}")
            return _NONE
        values = self.reader.section(node, STAGE, "stages[]", (node.line, node.column))
        if values["name"] is None:
            return _NONE
        where = f"the stage `{values['name']}`"
        if values["run"]:
            return self._run_stage(node, values, where)
        if not values["role"]:
            if "role" not in node.value and "run" not in node.value:
                self.reader.complain(node, f"{where} has no `role`", "add `role:`, or `run:`")
            self._blind = True
            return Stage(values["name"], "")
        wrong = self._cannot_do(values["role"])
        if wrong:
            self._lack(values["role"], node.value["role"], *wrong)
        role = self._cast.roles.get(values["role"])
        if role is None:
            self._blind = True
            return Stage(values["name"], values["role"], values["produces"] or "commits", values["artifact"])
        made = self._made(node, values, role)
        artifact = self._artifact(node, values, role, made)
        if values["commit"] and not artifact:
            message = f"{where} writes no document that could be committed"
            self._lack(role.name, node.keys["commit"], message, "`commit` is for documents; commits land anyway")
        return Stage(
            values["name"],
            values["role"],
            made,
            artifact,
            self._needs(node, values["needs"], role, earlier, items),
            values["approval"],
            values["commit"] if artifact else "",
        )

    def _run_stage(self, node: Node, values: Mapping[str, Any], where: str) -> Stage:
        for key in ("role", "produces", "artifact", "needs", "commit"):
            if key in fields(node):
                message = f"{where} is done by octopoid (`run`), so `{key}` means nothing"
                self.reader.complain(node.keys[key], message, "remove it")
        produces = "commits" if values["run"] == "branch" else ""
        return Stage(values["name"], "", produces, approval=values["approval"], run=values["run"])

    def _made(self, node: Node, values: Mapping[str, Any], role: Role) -> str:
        """What the stage leaves: what its role does, which the file may say again, or say where the role is for any."""
        said = str(values["produces"])
        if role.produces == "any":
            return said or "commits"
        if said and said != role.produces:
            message = f"the role `{role.name}` produces {role.produces}, not {said}"
            self._lack(role.name, fields(node)["produces"], message, "remove it, or name another role")
        return role.produces

    def _artifact(self, node: Node, values: Mapping[str, Any], role: Role, made: str) -> str:
        said = str(values["artifact"])
        if made not in ("document", "verdict"):
            if said:
                message = f"the role `{role.name}` leaves {made}, so there is no document `{said}`"
                self._lack(role.name, node.keys["artifact"], message, "remove it, or name another role")
            return ""
        return said or role.artifact or f"{values['name']}.md"

    def _needs(
        self, node: Node, needs: tuple[str, ...], role: Role, earlier: list[Stage], items: list[Node]
    ) -> tuple[str, ...]:
        """What the stage says, all of which an earlier stage must make, and of the role's wishes what one makes."""
        there = {stage.artifact for stage in earlier if stage.artifact}
        for one in _items(fields(node).get("needs")):
            name = str(one.value)
            if name in needs and name not in there and not self._blind:
                later = next((stage for stage in items if fields(stage).get("artifact", node).value == name), None)
                hint = nearest(name, there) or "no earlier stage makes a document"
                if later is not None:
                    hint = f"line {later.line} makes it: let that stage come before"
                self._lack(role.name, one, f"no earlier stage makes the document `{name}`", hint)
        return tuple(dict.fromkeys((*needs, *(name for name in role.inputs if name in there))))

    # what follows

    def _after(self, node: Node) -> tuple[Follow, ...]:
        found = []
        for one in self.reader.items(node, "after", 'write - {title: "Document: {title}", role: documenter}'):
            if not isinstance(one.value, dict):
                self.reader.complain(one, "what follows must have keys", 'write {title: "Document: {title}"}')
                continue
            follow = Follow(**self.reader.section(one, FOLLOW, "after[]", (one.line, one.column)))
            if self._follows(one, follow):
                found.append(follow)
        return tuple(found)

    def _follows(self, node: Node, follow: Follow) -> bool:
        """Reports what is wrong with a task that shall follow. False: a built-in flow does without it."""
        said = fields(node)
        for key in ("title", "body"):
            for word in _PLACEHOLDER.findall(str(said[key].value)) if key in said else ():
                if word not in _PLACEHOLDERS:
                    known = " and ".join(f"{{{one}}}" for one in _PLACEHOLDERS)
                    self.reader.complain(said[key], f"unknown placeholder {{{word}}} in `{key}`", f"known: {known}")
        if follow.flow not in self._flows:
            self.reader.complain(said["flow"], f"there is no flow `{follow.flow}`", nearest(follow.flow, self._flows))
        else:
            place = said.get("flow") or said.get("title") or node
            self.leads.append(_Leads(follow.flow, (place.line, place.column)))
        wrong = self._cannot_do(follow.role) if follow.role else None
        self._cast.roles.get(follow.role)
        if wrong and self._lacks is None:
            self.reader.complain(said["role"], *wrong)
        return not wrong


def _works(stages: tuple[Stage, ...]) -> bool:
    """Do these stages leave commits that can land?"""
    made = any(stage.produces == "commits" or stage.commit for stage in stages)
    return made and not any(stage.produces == "tasks" for stage in stages)


def _items(node: Node | None) -> list[Node]:
    """The items of a list, if it is one."""
    return node.value if node is not None and isinstance(node.value, list) else []
