"""JSON schemas (2020-12) of what octopoid prints and of what people and agents write, as data.

Those of outputs are made of the values that `views` prints, so that they cannot say anything else. The tests hold real
output against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from octopoid import configkeys, costs, details, views
from octopoid.adapters import events
from octopoid.configsandbox import MODES
from octopoid.results import MAX_DISCOVERED, MAX_TITLE, OUTCOMES
from octopoid.runview import RunView
from octopoid.stats import RoleStats
from octopoid.taskhead import PRIORITIES
from octopoid.thread import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 1

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_WORDS: Schema = {"type": "array", "items": _TEXT}
_SIMPLE: Mapping[str, Schema] = {
    "str": _TEXT,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "Mapping[str, int]": {"type": "object", "additionalProperties": _COUNT},
}


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": dict(properties), "required": needed, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(kind: type) -> Schema:
    """The schema of a NamedTuple of `views` as `views.plain` prints it."""
    return _object({name.rstrip("_"): _field(_written(note)) for name, note in kind.__annotations__.items()})


def _written(note: Any) -> str:
    """NamedTuple wraps the annotation strings of a `from __future__ import annotations` module in ForwardRef."""
    return str(getattr(note, "__forward_arg__", note))


def _field(note: str) -> Schema:
    if note.endswith(" | None"):
        return {"anyOf": [_field(note.removesuffix(" | None")), {"type": "null"}]}
    if note.startswith("tuple["):
        return _list(_field(note.removeprefix("tuple[").removesuffix(", ...]")))
    if note in _SIMPLE:
        return _SIMPLE[note]
    return record(getattr(views, note, None) or getattr(details, note))


def _output(kind: str, properties: Mapping[str, Schema]) -> Schema:
    head: dict[str, Schema] = {"schema_version": {"const": VERSION}, "kind": {"const": kind}}
    return _object({**head, **properties})


def _event() -> Schema:
    words = ("at", "event", "task", "from", "to", "by", "detail")
    return _object({"seq": _COUNT, **dict.fromkeys(words, _TEXT), "entry": _COUNT})


def _finding() -> Schema:
    return _object(
        {
            "code": _TEXT,
            "severity": _TEXT,
            "message": _TEXT,
            "fix": {"anyOf": [_TEXT, {"type": "null"}]},
            "path": {"anyOf": [_TEXT, {"type": "null"}]},
        }
    )


def _post() -> Schema:
    return _object(
        {"at": _TEXT, "entry": _COUNT, "kind": {"enum": list(KINDS)}, "who": _TEXT, "text": _TEXT, "refs": _WORDS}
    )


def _decision() -> Schema:
    words = dict.fromkeys(("problem", "chosen", "why"), _TEXT)
    return _object({"at": _TEXT, "task": _TEXT, "entry": _COUNT, "who": _TEXT, **words, "variants": _WORDS})


def _log() -> Schema:
    """The first line is `log`, the last one `outcome`; of the events every field may be missing that says nothing."""
    words = ("text", "name", "model", "session", "answer", "task", "started", "role", "agent", "adapter", "gate")
    ends = ("class", "reason", "verdict")
    counts = dict.fromkeys(("schema_version", "entry", "attempt", "turns"), _COUNT)
    amount: Schema = {"type": "number", "minimum": 0}
    yes: Schema = {"const": True}
    others = {**dict.fromkeys(("wait", "seconds"), amount), **dict.fromkeys(("error", "part", "inside"), yes)}
    tokens = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), _COUNT)
    usage = _object({**tokens, "usd": amount, "priced": _TEXT}, [])
    kind: Schema = {"enum": ["log", *events.KINDS, "text", "outcome"]}
    said = {**dict.fromkeys((*words, *ends), _TEXT), **counts, **others, "usage": usage}
    return _object({"kind": kind, **said}, ["kind"])


def _cost() -> dict[str, Schema]:
    ways: Schema = {"enum": list(costs.WAYS)}
    since: Schema = {"anyOf": [_TEXT, {"type": "null"}]}
    row, budgets = record(costs.Row), _list(record(costs.BudgetRow))
    return {"by": ways, "since": since, "rows": _list(row), "total": row, "budgets": budgets}


def _subtask() -> Schema:
    words: dict[str, Schema] = dict.fromkeys(("key", "body", "role", "flow"), _TEXT)
    lists = dict.fromkeys(("depends_on", "labels", "criteria"), _WORDS)
    title: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TITLE}
    return _object({"title": title, **words, "priority": {"enum": list(PRIORITIES)}, **lists}, ["title"])


def _choice() -> Schema:
    needed: Schema = {"type": "string", "minLength": 1}
    return _object({"problem": needed, "chosen": needed, "variants": _WORDS, "why": _TEXT}, ["problem", "chosen"])


def _result() -> Schema:
    usage = _object({"input_tokens": _COUNT, "output_tokens": _COUNT, "usd": {"type": "number", "minimum": 0}}, [])
    finding = _object({"file": _TEXT, "line": _COUNT, "severity": _TEXT, "message": _TEXT}, ["message"])
    properties: dict[str, Schema] = {
        "outcome": {"enum": list(OUTCOMES)},
        "summary": _TEXT,
        "feedback": _TEXT,
        "questions": _WORDS,
        "subtasks": _list(_subtask()),
        "discovered": {**_list(_subtask()), "maxItems": MAX_DISCOVERED},
        "decisions": _list(_choice()),
        "handoff_to": _TEXT,
        "findings": _list(finding),
        "usage": usage,
    }
    return _object(properties, [])


_COMMAND: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {**_WORDS, "minItems": 1}]}
_KINDS: Mapping[str, Schema] = {
    "amounts": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    "argv": {**_WORDS, "minItems": 1},
    "branch": _TEXT,
    "command": _COMMAND,
    "count": {"type": "integer", "minimum": 1},
    "duration": {"anyOf": [{"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}, _COUNT]},
    "counts": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
    "cron": _TEXT,
    "dollars": {"type": "number", "minimum": 0},
    "file": _TEXT,
    "files": _WORDS,
    "land": {"enum": list(configkeys.LAND_MODES)},
    "money": {"type": "number", "minimum": 0},
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"},
    "landing": {
        "anyOf": [{"enum": list(configkeys.LAND_MODES)}, _object({"mode": {"enum": list(configkeys.LAND_MODES)}})]
    },
    "number": _COUNT,
    "path": _TEXT,
    "places": _WORDS,
    "produces": {"enum": list(configkeys.PRODUCES)},
    "prose": _TEXT,
    "roles": {"anyOf": [_WORDS, _TEXT]},
    "run": {"enum": list(configkeys.RUNS)},
    "sandboxing": {"enum": list(MODES)},
    "size": {"anyOf": [_COUNT, {"type": "string", "pattern": "^[0-9]+[kKMGT]?i?B?$"}]},
    "switch": {"enum": ["on", "off"]},
    "text": _TEXT,
    "tokens": {"anyOf": [_COUNT, {"type": "string", "pattern": "^[0-9]+[kM]?$"}]},
    "tools": {"anyOf": [_WORDS, _TEXT]},
    "upto": _COUNT,
    "variables": _WORDS,
    "version": {"const": 1},
    "words": _WORDS,
    "yesno": {"type": "boolean"},
}
_SECTIONS = {
    "land": configkeys.LAND,
    "limits": configkeys.LIMITS,
    "worktrees": configkeys.WORKTREES,
    "notify": configkeys.NOTIFY,
    "sandbox": configkeys.SANDBOX,
}


def _keys(keys: tuple[configkeys.Key, ...]) -> Schema:
    return _object(
        {key.name: {**_key(key), "description": key.meaning} for key in keys}, [k.name for k in keys if k.required]
    )


def _key(key: configkeys.Key) -> Schema:
    if key.kind == "section":
        return _keys(_SECTIONS[key.name])
    return _NESTED[key.kind]() if key.kind in _NESTED else _KINDS[key.kind]


def _gates() -> Schema:
    """A gate, or a list of those that are asked at once."""
    gate: Schema = {"anyOf": [_TEXT, _keys(configkeys.GATE)]}
    return _list({"anyOf": [*gate["anyOf"], _list(gate)]})


def _named(keys: tuple[configkeys.Key, ...], least: int) -> Schema:
    return {"type": "object", "additionalProperties": _keys(keys), "minProperties": least}


_NESTED: Mapping[str, Callable[[], Schema]] = {
    "after": lambda: _list(_keys(configkeys.FOLLOW)),
    "agents": lambda: _named(configkeys.AGENT, 1),
    "checks": lambda: _list({"anyOf": [_keys(configkeys.CHECK), _TEXT]}),
    "gates": _gates,
    "prices": lambda: _named(configkeys.PRICE, 0),
    "sandbox": lambda: {"anyOf": [_KINDS["sandboxing"], _keys(configkeys.SANDBOX)]},
    "schedules": lambda: _named(configkeys.SCHEDULE, 0),
    "stages": lambda: {**_list(_keys(configkeys.STAGE)), "minItems": 1},
}


def _undone() -> Schema:
    return _object(dict.fromkeys(("task", "move", "at", "from", "to", "redo"), _TEXT))


def _then() -> Schema:
    """A `status` of the past: everything may be null, in the rows as well."""
    empty: Schema = {"type": "null"}
    rows = {
        "needs_you": views.NeedView,
        "waiting": views.TaskView,
        "landed": views.LandedView,
        "running": RunView,
    }
    told = {
        name: {"anyOf": [_list(_object({key: {"anyOf": [one, empty]} for key, one in fields.items()})), empty]}
        for name, kind in rows.items()
        if (fields := record(kind)["properties"])
    }
    counts: Schema = {"type": "object", "additionalProperties": {"anyOf": [_COUNT, empty]}}
    begins: Schema = {"anyOf": [_TEXT, empty]}
    return {"at": _TEXT, "begins": begins, "counts": counts, **told, "invalid": empty, "scheduler": empty}


def _outputs() -> dict[str, Schema]:
    task, problem = record(views.TaskView), record(views.ProblemView)
    entries, verdicts = _list(record(details.EntryView)), _list(record(details.VerdictView))
    documents = _list(record(details.DocumentView))
    return {
        "status": _output("status", record(views.StatusView)["properties"]),
        "status-at": _output("status", _then()),
        "undo": _output("undo", {"dry_run": {"type": "boolean"}, "undone": _list(_undone())}),
        "list": _output("list", {"tasks": _list(task), "invalid": _list(problem)}),
        "show": _output(
            "show", {"task": task, "body": _TEXT, "documents": documents, "entries": entries, "verdicts": verdicts}
        ),
        "why": _output("why", record(details.WhyView)["properties"]),
        "events": _output("events", {"events": _list(_event())}),
        "thread": _output("thread", {"task": _TEXT, "state": _TEXT, "posts": _list(_post())}),
        "decisions": _output("decisions", {"decisions": _list(_decision())}),
        "stats": _output("stats", {"roles": _list(record(RoleStats))}),
        "cost": _output("cost", _cost()),
        "lint": _output("lint", {"problems": _list(problem), "warnings": _list(problem)}),
        "migrate": _output(
            "migrate",
            {
                **dict.fromkeys(("found", "wanted", "steps"), _COUNT),
                "dry_run": {"type": "boolean"},
                "done": _WORDS,
            },
        ),
        "trust": _output(
            "trust",
            {
                "trusted": {"type": "boolean"},
                "runs": _list(_object(dict.fromkeys(("what", "command"), _TEXT))),
                "notes": _WORDS,
            },
        ),
        "doctor": _output(
            "doctor",
            {
                "findings": _list(_finding()),
                "fixed": _list(_object(dict.fromkeys(("code", "message", "path"), _TEXT))),
                "repairs": _list(
                    _object({**dict.fromkeys(("code", "message", "path"), _TEXT), "done": {"type": "boolean"}})
                ),
            },
        ),
    }


MEANINGS: Mapping[str, str] = {
    "task": "one task, as it stands in status, list and show",
    "status": "octopoid status --json",
    "status-at": "octopoid status --at TIME --json: what cannot be known of that time is null",
    "undo": "octopoid undo --json",
    "list": "octopoid list --json",
    "show": "octopoid show ID --json",
    "why": "octopoid why ID --json",
    "events": "octopoid events --json; with -f each line is one of `events`",
    "log": "octopoid log ID --json: one of its lines",
    "thread": "octopoid thread ID --json",
    "decisions": "octopoid decisions --json",
    "stats": "octopoid stats --json",
    "cost": "octopoid cost --json",
    "lint": "octopoid lint --json",
    "doctor": "octopoid doctor --json",
    "migrate": "octopoid migrate --json",
    "trust": "octopoid trust --json",
    "agents": ".octopoid/agents.yaml",
    "flow": ".octopoid/flows/NAME.yaml",
    "result": "what an agent writes to $OCTOPOID_RESULT_FILE",
}
"""Every kind of `octopoid schema`, and what it is the schema of."""


def of(kind: str) -> Schema:
    """The schema with this name. Raises KeyError for one that is not in MEANINGS."""
    made = {
        **_outputs(),
        "task": record(views.TaskView),
        "agents": _keys(configkeys.TOP),
        "flow": _keys(configkeys.FLOW),
        "result": _result(),
        "log": _log(),
    }
    return {"$schema": DIALECT, "title": f"octopoid {kind}", "description": MEANINGS[kind], **made[kind]}
