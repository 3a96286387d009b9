"""What our adapters need of the programs' outputs, field by field: a new version that leaves one out is told by name.

`FIELDS` are the records and fields that the readers in `octopoid/adapters` look at; `LINES` are sentences of programs
that have no record for something. A field is there when one record of its kind has it: not every record has them all.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentcases import FAILURES, Cell, User, left_behind, prepare
from agentdrivers import Driver, installed, version
from harness import end_marked
from modelserver import drop as cut
from modelserver import error

from octopoid.adapters import ADAPTERS, Request
from octopoid.settings import Agent, Role

FIELDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "claude": {
        "system/init": ("session_id", "model", "claude_code_version"),
        "system/api_retry": ("attempt", "max_retries", "retry_delay_ms", "error_status"),
        "assistant": (
            "parent_tool_use_id",
            "message.id",
            "message.model",
            "message.content.*.type",
            "message.content.*.text",
            "message.content.*.name",
            "message.content.*.input",
            "message.usage.input_tokens",
            "message.usage.output_tokens",
            "message.usage.cache_read_input_tokens",
        ),
        "user": ("message.content.*.type", "message.content.*.content", "message.content.*.is_error"),
        "result": (
            "subtype",
            "is_error",
            "result",
            "errors.*",
            "api_error_status",
            "session_id",
            "num_turns",
            "duration_ms",
            "total_cost_usd",
            "usage.input_tokens",
            "usage.output_tokens",
            "modelUsage.*.inputTokens",
            "modelUsage.*.outputTokens",
            "modelUsage.*.cacheReadInputTokens",
            "modelUsage.*.cacheCreationInputTokens",
            "permission_denials.*.tool_name",
            "permission_denials.*.tool_input",
        ),
    },
    "codex": {
        "thread.started": ("thread_id",),
        "turn.started": (),
        "error": ("message",),
        "item.started/command_execution": ("command",),
        "item.completed/command_execution": ("command", "aggregated_output", "exit_code"),
        "item.completed/file_change": ("changes.*.path", "changes.*.kind", "status"),
        "item.completed/agent_message": ("text",),
        "turn.completed": ("usage.input_tokens", "usage.cached_input_tokens", "usage.output_tokens"),
        "turn.failed": ("error.message",),
    },
    "anthropic": {
        "started": ("model", "session"),
        "message": ("text",),
        "tool": ("name", "input"),
        "tool_result": ("name", "text", "error", "denied"),
        "retry": ("try", "of", "wait"),
        "usage": ("turn", "input", "cache_read", "cache_write", "output", "usd", "total.input_tokens", "total.usd"),
        "ended": ("class", "reason", "detail", "session", "turns", "seconds", "total.output_tokens"),
    },
    "gemini": {
        "init": ("session_id", "model"),
        "message": ("role", "content"),
        "tool_use": ("tool_name", "parameters"),
        "tool_result": ("tool_id", "status", "output", "error.type"),
        "result": (
            "status",
            "error.message",
            "stats.total_tokens",
            "stats.input_tokens",
            "stats.output_tokens",
            "stats.cached",
            "stats.duration_ms",
            "stats.models.*.total_tokens",
        ),
    },
    "opencode": {
        "step_start": ("sessionID",),
        "text": ("part.text",),
        "tool_use": ("part.tool", "part.state.input", "part.state.output", "part.state.error", "part.state.status"),
        "step_finish": (
            "part.reason",
            "part.messageID",
            "part.cost",
            "part.tokens.input",
            "part.tokens.output",
            "part.tokens.reasoning",
            "part.tokens.cache.read",
            "part.tokens.cache.write",
        ),
        "error": ("error.name", "error.data.message", "error.data.statusCode"),
    },
    "aider": {
        "message_send_starting": (),
        "message_send": ("properties.prompt_tokens", "properties.completion_tokens", "properties.cost"),
    },
    "mini-swe-agent": {  # written by our own class inside it, from what it has there
        "started": ("version", "model"),
        "tool": ("text",),
        "result": ("text", "status"),
        "retry": ("text",),
        "usage": ("turns", "usd", "input_tokens", "output_tokens"),
        "ended": ("status", "limit", "submission", "text", "code", "turns", "usd"),
    },
}
LINES: Mapping[str, Sequence[str]] = {
    "codex": (r"401 Unauthorized", r"Reconnecting\.\.\."),
    "gemini": (r"^Attempt \d+ failed",),
    "opencode": (r'level=ERROR .*message="stream error" .*small=false .*error\.error="',),
    "aider": (
        r"^Aider v\d",
        r"^(Main model|Model): \S+ with ",
        r"^Tokens: [\d.,kM]+ sent, [\d.,kM]+ received\.",
        r"^Applied edit to ",
        r"^litellm\.\w+: ",
        r"^Retrying in [\d.]+ seconds",
        r"^LLM RESPONSE ",
        r"^ASSISTANT ",
    ),
}
"""What is told in no record, as regular expressions."""
FILES: Mapping[str, Sequence[str]] = {"aider": ("aider/events.jsonl", "aider/conversation.txt")}
"""Where a program says something besides its log, in the attempt's folder."""

UNTOLD: Mapping[str, Sequence[str]] = {"claude": ("--max-turns",)}
"""Flags in no help text, which the runs themselves prove."""
HELP: Mapping[str, Sequence[str]] = {"codex": ("exec", "--help"), "opencode": ("run", "--help")}
"""How a program is asked for its flags, if not by `--help`."""

_ROLES = (
    Role("implementer", ""),
    Role("implementer", "", tools=("Read", "Bash(git status:*)")),
    Role("gatekeeper", "", produces="verdict", writes=False),
    Role("planner", "", produces="document", writes=False),
    Role("breakdown", "", produces="tasks", writes=False),
)


def measure(driver: Driver, place: Path) -> Cell:
    """Run the program in `place` and see what of its outputs and flags is not as we know it."""
    began = time.monotonic()
    wrong: list[str] = []
    trouble = ""
    try:
        with driver.server({}) as server:
            user = prepare(driver, place, server)
            wrong = [*lacking(driver, logs(user)), *flags(driver, user)]
            trouble = left_behind(user.repo)
    except FAILURES:
        trouble = traceback.format_exc(limit=-4)
    finally:
        end_marked(place)
    word = f"{len(wrong)} are not there" if wrong else "failed" if trouble else "all there"
    return Cell(word, time.monotonic() - began, "\n".join((*wrong, *filter(None, (trouble,)))))


def logs(user: User) -> bytes:
    """What it prints in a run with a retry, tools, denials; at its turn limit; with a wrong key."""
    driver = user.driver
    user.policy({"max_turns": 6})
    if user.octopoid("config", "check", ok=(0, 4)).status:
        user.policy()
    user.role("implementer", "{{ task.id }}-{{ attempt }}", tools="Read, Bash(git status:*)")
    tools = [driver.run("git status"), driver.run("git commit -q --allow-empty -m x")] if driver.run else []
    begun = [error(500, times=3), *driver.write("a.txt", "x")]  # three: the first ones some do not tell
    user.task("work", [*begun, cut(times=1), *tools, driver.done("All done.")])
    if driver.run:
        user.task("endless", [driver.run(f"echo {number}") for number in range(8)])
    user.octopoid("run", "--until-empty", ok=(0, 6))
    user.task("refused", [error(401, message="invalid key")])
    user.octopoid("run", "--until-empty", ok=(6,))
    names = ("output.log", *FILES.get(driver.adapter, ()))
    return b"".join(
        path.read_bytes() for name in names for path in sorted(user.repo.layout.attempts.glob(f"*/*/{name}"))
    )


def lacking(driver: Driver, log: bytes) -> list[str]:
    """A sentence for each record, field and line that should be in `log` and is not."""
    found: dict[str, list[Any]] = {}
    for record in _records(log):
        found.setdefault(_kind(record), []).append(record.get("item", record) if _of_item(record) else record)
    which = f"{driver.adapter} {version(driver)}"
    wrong = []
    for kind, fields in FIELDS.get(driver.adapter, {}).items():
        if kind not in found:
            wrong.append(f"{which}: there is no record `{kind}` any more; there are {', '.join(sorted(found))}")
            continue
        absent = [field for field in fields if not any(_has(one, field.split(".")) for one in found[kind])]
        wrong += [f"{which}: record `{kind}` has no field `{field}` any more" for field in absent]
    plain = log.decode("utf-8", "replace")
    told = (line for line in LINES.get(driver.adapter, ()) if not re.search(line, plain, re.MULTILINE))
    return wrong + [f"{which}: it does not say `{line}` any more" for line in told]


def _records(log: bytes) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        try:
            record = json.loads(line[line.find(b"{") :]) if b"{" in line else None
        except ValueError:
            continue
        if isinstance(record, dict) and ("type" in record or "event" in record):
            yield record if "type" in record else {**record, "type": record["event"]}


def _of_item(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("item"), dict)


def _kind(record: Mapping[str, Any]) -> str:
    """`system/init`, `item.completed/agent_message`, `result`."""
    second = record["item"].get("type") if _of_item(record) else record.get("subtype")
    return f"{record['type']}/{second}" if second and record["type"] != "result" else str(record["type"])


def _has(value: Any, path: Sequence[str]) -> bool:
    """Is there something at the end of `path`? `*` is any member of a mapping or a list. Also null is something."""
    if not path:
        return True
    if path[0] == "*":
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(_has(one, path[1:]) for one in members)
    return isinstance(value, dict) and path[0] in value and _has(value[path[0]], path[1:])


def flags(driver: Driver, user: User) -> list[str]:
    """A sentence for each flag of our command lines that the program's help does not know."""
    if not driver.program:
        return []
    help_ = HELP.get(driver.adapter, ("--help",))
    env = {**user.repo.env, "HOME": str(user.repo.root.parent / "home")}
    asked = subprocess.run([installed(driver.program), *help_], capture_output=True, text=True, env=env, check=False)
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", asked.stdout + asked.stderr))
    unknown = sorted(used(driver, user) - known - set(UNTOLD.get(driver.adapter, ())))
    which = f"{driver.adapter} {version(driver)}"
    return [f"{which}: `{' '.join(help_)}` does not name `{flag}` any more" for flag in unknown]


def used(driver: Driver, user: User) -> set[str]:
    """The flags of the command lines that the adapter makes, for every kind of role."""
    adapter = ADAPTERS[driver.adapter]
    keys = {"model": "m", "max_turns": 3, "max_usd": 1.0}
    given = {key: value for key, value in keys.items() if key not in adapter.facts.ignores}
    entry = user.entry("work")
    words: list[str] = []
    for role in _ROLES:
        agent = Agent("worker", role.name, driver.adapter, **given)  # type: ignore[arg-type]  # of many kinds
        for session in ("", "a-session"):
            words += adapter.launch(Request(agent, role, entry, entry / "prompt.md", user.repo.root, session)).argv
    return {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-zA-Z][\w-]*(=.*)?", word)} - {"-c"}
