"""Every key that `agents.yaml`, a flow file and a role's header may have: its kind, its default, what it means.

The defaults are those of the records in `settings.py`; this table only shows them. `docs/configuration.md` contains
what `table` prints, and a test says so.
"""

from __future__ import annotations

from typing import NamedTuple

from octopoid.settings import (
    Agent,
    Check,
    Config,
    Flow,
    Follow,
    Gate,
    Limits,
    Role,
    Sandbox,
    Schedule,
    Stage,
    Worktrees,
)


class Key(NamedTuple):
    """One key. `kind` names a row of KINDS; `says` is the default in words, where a value would not do."""

    name: str
    kind: str
    default: object
    meaning: str
    required: bool = False
    says: str = ""


KINDS = {
    "after": "list of tasks",
    "agents": "one entry per agent",
    "amounts": "US dollars for each role; `0` = no limit",
    "argv": "list of words (no shell)",
    "branch": "a branch's name",
    "checks": "list",
    "command": "text (run by `sh -c`) or list of words (no shell)",
    "count": "whole number from 1",
    "counts": "a number from 1 for each role or folder",
    "cron": "five fields: minute, hour, day of the month, month, day of the week",
    "dollars": "US dollars from `0`",
    "duration": "`45m`, `90s`, `1h30m`, or seconds; `0` = off",
    "file": "name of a document, like `plan.md`",
    "files": "list of documents, like `plan.md`",
    "gates": "list of `checks`, `human` and roles that give verdicts; a list inside it is asked at once",
    "land": "`merge`, `squash`, `rebase` or `none`",
    "landing": "`merge`, `squash`, `rebase` or `none`, also as `{mode: …}`",
    "money": "US dollars; `0` = no limit",
    "name": "`a-z`, `0-9`, `-`",
    "number": "whole number from 0",
    "path": "path in the repository",
    "places": "list of paths, from `/` or `~/`",
    "prices": "one entry per model",
    "produces": "`commits`, `document`, `verdict` or `tasks`",
    "prose": "text, also of several lines",
    "roles": "list of roles, or `all`",
    "run": "`reproduce` or `branch`",
    "sandbox": "`off`, `on`, `required`, `bwrap` or `sandbox-exec`, also as `{mode: …}`",
    "sandboxing": "`off`, `on`, `required`, `bwrap` or `sandbox-exec`",
    "schedules": "one entry per schedule",
    "stages": "list of stages",
    "section": "keys of its own",
    "size": "bytes, like `512M` or `2G`; `0` = no limit",
    "switch": "`on` or `off`",
    "upto": "whole number; `0` = no limit",
    "text": "text",
    "tokens": "whole number from 0, also like `200k` or `2M`",
    "tools": "list, or text with commas",
    "variables": "list of names, never values",
    "version": "`1`",
    "words": "list of words",
    "yesno": "`true` or `false`",
}

LAND_MODES = ("merge", "squash", "rebase", "none")
PRODUCES = ("commits", "document", "verdict", "tasks")
RUNS = ("reproduce", "branch")
GATE_WORDS = ("checks", "human")
WIP_FOLDERS = ("claimed", "provisional", "blocked")

DEFAULT_GATES = ("checks", "human")
DEFAULT_LAND = "merge"


def _of(record: type, name: str, kind: str, meaning: str) -> Key:
    """A key whose default is that of the field of the same name in `record`."""
    defaults: dict[str, object] = getattr(record, "_field_defaults", {})
    return Key(name, kind, defaults[name], meaning)


TOP = (
    Key("version", "version", 1, "the format of this file"),
    Key("base", "branch", "", "the branch that work starts from and lands on; without it the repository's own default"),
    _of(Config, "max_agents", "count", "agents at work at once, over all pools"),
    _of(Config, "max_checks", "count", "runs of checks at once; they take no agent's place"),
    _of(Config, "grace", "duration", "from SIGTERM to SIGKILL when something is ended; `0` = at once"),
    Key("checks", "checks", (), "the project's own commands: what must pass on exactly the tree that lands"),
    Key("gates", "gates", DEFAULT_GATES, "who must say yes before landing, in this order; the first no ends the round"),
    Key("land", "section", {}, "how work gets onto the base branch"),
    Key("limits", "section", {}, "caps"),
    Key("worktrees", "section", {}, "how a task's own checkout is made"),
    Key("notify", "section", {}, "what is called when something happens that a person wants to know"),
    Key("sandbox", "sandbox", {}, "how [programs are shut in](sandbox.md) that run code of agents'", says="`off`"),
    Key("agents", "agents", None, "the pools of workers, by name", required=True),
    Key("schedule", "schedules", {}, "standing work: tasks that are made at certain times, by name"),
    Key("prices", "prices", {}, "what models cost, by name, before the [table that ships](cost.md#prices)"),
)

CHECK = (
    Key("name", "name", None, "shown in verdicts and logs; unique", required=True),
    Key("run", "command", None, "the command; exit status 0 = passed", required=True),
    _of(Check, "timeout", "duration", "longer than this is a no"),
)

LAND = (Key("mode", "land", DEFAULT_LAND, "one merge commit; one commit; the commits replayed; or only a branch"),)

LIMITS = (
    _of(Limits, "attempts", "count", "charged failures of one role before the task is blocked"),
    _of(Limits, "rounds", "count", "refusals by any gate before the task is blocked"),
    _of(Limits, "usd_per_task", "money", "spent on one task"),
    _of(Limits, "usd_per_day", "money", "spent on all tasks in a day"),
    _of(Limits, "usd_per_role", "amounts", "spent by a role in a day"),
    _of(Limits, "usd_unknown", "dollars", "what an attempt counts towards these budgets whose cost is not known"),
    _of(Limits, "max_provisional", "count", "tasks at the gates at once; at this number nothing new is claimed"),
    _of(Limits, "handoffs", "count", "hand-overs from role to role in one task"),
    _of(Limits, "depth", "count", "breakdowns below one another: tasks of tasks"),
    _of(Limits, "subtasks", "count", "tasks that one breakdown may make"),
    _of(Limits, "proposals", "count", "proposed tasks that wait for a person at once"),
    _of(Limits, "wip", "counts", "tasks at once with this role at work, or in `claimed`, `provisional` or `blocked`"),
)

WORKTREES = (
    _of(Worktrees, "dir", "text", "where they are, instead of `.octopoid/worktrees`; relative to the repository"),
    _of(Worktrees, "setup", "command", "run in each new one before the agent starts"),
    _of(Worktrees, "setup_timeout", "duration", "for `setup`"),
    _of(Worktrees, "reuse", "yesno", "give the worktree of a landed task to the next one, cleaned"),
    _of(Worktrees, "git_credentials", "yesno", "may `setup` use [what git logs you in with](sandbox.md#git)"),
)

NOTIFY = (Key("command", "argv", (), "what happened is in its `OCTOPOID_EVENT_*` environment variables"),)

AGENT = (
    Key("role", "name", "", "what it is for: a file in `roles/` or a built-in role", says="its name, if a role's"),
    _of(Agent, "roles", "roles", "what it is for besides `role`, or instead of it"),
    Key("adapter", "name", None, "how its program is started and read: see [agent programs](agents.md)", True),
    _of(Agent, "instances", "count", "how many of it work at once"),
    _of(Agent, "model", "text", "the model its program uses; before the role's `model`"),
    _of(Agent, "timeout", "duration", "wall clock of one attempt"),
    _of(Agent, "silence", "duration", "no output for this long ends the attempt"),
    _of(Agent, "env", "variables", "environment variables passed on from the scheduler's environment, where set"),
    _of(Agent, "command", "command", "adapter `command`: its program; others: what starts theirs"),
    _of(Agent, "script", "text", "adapter `scripted`: its script file, relative to the repository"),
    _of(Agent, "args", "words", "further arguments for its program"),
    _of(Agent, "max_turns", "number", "turns of one attempt, where [they are counted](agents.md); `0` = no limit"),
    _of(Agent, "max_tokens", "tokens", "adapter `anthropic`: tokens of one attempt, read and written; `0` = no limit"),
    _of(Agent, "max_usd", "money", "what one attempt may cost; where the program [can end itself](cost.md#budgets)"),
    _of(Agent, "context", "tokens", "adapter `anthropic`: a longer conversation is summarised"),
    _of(Agent, "retries", "number", "tries without an answer: `anthropic`, `gemini`, `mini-swe-agent`"),
    _of(Agent, "base_url", "text", "the address of the API, if not the provider's: not for `claude` and `codex`"),
    _of(Agent, "pre_check", "command", "run before the agent is; exit status 1 = there is nothing to do"),
    Key("sandbox", "sandbox", {}, "how it is shut in; keys that it does not have are as above", says="as above"),
    _of(Agent, "git_credentials", "yesno", "may it use [what git logs you in with](sandbox.md#git)"),
)

SANDBOX = (
    _of(Sandbox, "mode", "sandboxing", "not; where the machine can; or not without, with any or with this program"),
    Key("network", "switch", True, "may its programs reach the network", says="`on`"),
    _of(Sandbox, "write", "places", "folders that they may change, such as a cache; nothing in the repository"),
    _of(Sandbox, "read", "places", "paths that [are hidden](sandbox.md#what-is-hidden) and that they may see"),
    _of(Sandbox, "hide", "places", "further paths that they do not see"),
    _of(Sandbox, "memory", "size", "of one process"),
    _of(Sandbox, "processes", "upto", "at once; [who counts them](sandbox.md#limits)"),
    _of(Sandbox, "file_size", "size", "of one file"),
    _of(Sandbox, "files", "upto", "open ones of one process"),
    _of(Sandbox, "cpu", "duration", "time on a processor, of one process"),
)
"""What `sandbox` may say. The limits hold without a sandbox too."""

SCHEDULE = (
    Key("cron", "cron", None, "when, in local time", required=True),
    _of(Schedule, "template", "name", "the task: a file in `templates/` or a built-in template"),
    _of(Schedule, "title", "text", "the task: this title alone; instead of `template`"),
    _of(Schedule, "role", "name", "its `role`"),
    _of(Schedule, "flow", "name", "its `flow`"),
    _of(Schedule, "pre_check", "command", "run before the agent is; exit status 1 = there is nothing to do"),
    _of(Schedule, "max_open", "count", "at so many open tasks of this schedule no further one is made"),
)

PRICE = (
    Key("input", "dollars", None, "US dollars per million tokens that go in", required=True),
    Key("output", "dollars", None, "the same for those that come out", required=True),
    Key("cached", "dollars", None, "the same for those that come from the cache", says="as `input`"),
)

GATE = (
    Key("gate", "name", None, "`checks`, `human` or a role that gives verdicts", required=True),
    _of(Gate, "required", "yesno", "`false`: asked and shown, and refuses nothing"),
)

FLOW = (
    _of(Flow, "description", "text", "one line for people"),
    Key("stages", "stages", None, "what is done, one after the other", required=True),
    Key("gates", "gates", None, "who must say yes before landing", says="those of agents.yaml"),
    Key("rounds", "count", 0, "refusals before the task is blocked", says="`limits.rounds`"),
    Key("land", "landing", "", "how the work gets onto the base branch", says="`land` of agents.yaml"),
    Key("conflicts", "name", "", "the role that resolves conflicts with the base", says="the one that did the work"),
    Key("after", "after", (), "tasks that are made when the work has landed"),
)

STAGE = (
    Key("name", "name", None, "unique in the flow", required=True),
    Key("role", "name", "", "who does it", says="required without `run`"),
    Key("produces", "produces", "", "what it leaves; only where the role leaves that open", says="as the role says"),
    Key("artifact", "file", "", "the document it writes", says="as the role says"),
    _of(Stage, "needs", "files", "documents of earlier stages, without which it does not start"),
    _of(Stage, "approval", "yesno", "a person says yes before the task goes on"),
    _of(Stage, "commit", "path", "where the document is committed; without it, it is not"),
    _of(Stage, "run", "run", "instead of `role`: the task's commands must fail; or the project's branch is taken up"),
)

FOLLOW = (
    Key("title", "text", None, "its title; `{title}` and `{id}` are those of what landed", required=True),
    Key("role", "name", "", "its `role`", says="as its flow says"),
    _of(Follow, "flow", "name", "its `flow`"),
    _of(Follow, "body", "prose", "the text below the title; `{title}` and `{id}` as above"),
)

ROLE = (
    _of(Role, "description", "text", "one line for people"),
    _of(Role, "produces", "produces", "work to land; a document; a yes or no about work; or further tasks"),
    Key("writes", "yesno", None, "may it change files; what others change is thrown away", says="`true` for commits"),
    _of(Role, "tools", "tools", "the tools its program may use; empty = the adapter's own choice"),
    _of(Role, "model", "text", "the model, unless the agent names one"),
    Key("artifact", "file", "", "the document that it writes", says="`NAME.md` for a document"),
    _of(Role, "proposals", "yesno", "its tasks wait, parked, until a person starts or drops each of them"),
    _of(Role, "inputs", "words", "documents that it wants to see, where an earlier stage makes them"),
    _of(Role, "max_turns", "number", "turns of one attempt; `0` = as the agent says"),
    _of(Role, "timeout", "duration", "wall clock of one attempt; `0` = as the agent says"),
    Key("sandbox", "sandbox", {}, "what makes the sandbox of its agent stricter", says="as the agent says"),
)

SECTIONS: dict[str, tuple[Key, ...]] = {
    "": TOP,
    "checks[]": CHECK,
    "land": LAND,
    "limits": LIMITS,
    "worktrees": WORKTREES,
    "notify": NOTIFY,
    "sandbox": SANDBOX,
    "agents.NAME": AGENT,
    "schedule.NAME": SCHEDULE,
    "prices.MODEL": PRICE,
}
"""The sections of `agents.yaml` by where they stand; a role's header is ROLE."""

FLOW_SECTIONS: dict[str, tuple[Key, ...]] = {
    "": FLOW,
    "stages[]": STAGE,
    "gates[]": GATE,
    "after[]": FOLLOW,
}
"""The sections of a flow file. A gate is a mapping only where it is not required."""

ELSEWHERE = {
    "pause": "state is not policy: use `octopoid pause`",
    "paused": "state is not policy: use `octopoid pause`",
    "enabled": "state is not policy: use `octopoid pause`",
    "disabled": "state is not policy: use `octopoid pause`",
    "api_key": "secrets never go into this file: list the variable's name in the agent's `env`",
    "token": "secrets never go into this file: list the variable's name in the agent's `env`",
    "flows": "a flow is a file of its own: `flows/NAME.yaml`",
    "roles": "a role is a file of its own: `roles/NAME.md`",
    "prompt": "a prompt is the text of a role file: `roles/NAME.md`",
}
"""Keys that people look for here, and where the thing really is."""


def seconds(value: float) -> str:
    """A duration (seconds) as this file writes it: `1h30m`, `20m`, `0`."""
    whole = int(value)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0"


def shown(key: Key) -> str:
    """The default of `key` as the table of the documentation shows it."""
    if key.required:
        return "required"
    if key.says:
        return key.says
    value = key.default
    if key.kind == "duration" and isinstance(value, (int, float)):
        return f"`{seconds(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, tuple) and value:
        return f"`[{', '.join(value)}]`"
    return "–" if value in ("", (), None) or value == {} else f"`{value}`"


def table(sections: dict[str, tuple[Key, ...]] | None = None) -> str:
    """The reference table of `docs/configuration.md`, in markdown; of `sections` alone if given."""
    rows = ["| key | what it takes | default | meaning |", "|---|---|---|---|"]
    for where, keys in (SECTIONS if sections is None else sections).items():
        rows += [
            f"| `{where + '.' if where else ''}{key.name}` | {KINDS[key.kind]} | {shown(key)} | {key.meaning} |"
            for key in keys
        ]
    return "\n".join(rows) + "\n"
