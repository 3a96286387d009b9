"""How each agent program is driven in tests: what leads it to a scripted model, and how it is made to do something.

A program is one record in DRIVERS. What it is put through stands in `agentcases`.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from chatserver import ChatServer
from geminiserver import GeminiServer, quota
from harness import PROJECT
from modelserver import ModelServer, Step, error, several, text, tool
from openaiserver import OpenAIServer

Steps = Sequence[Step]
_COST = {"input": 1, "output": 2, "cache_read": 0.1}
REFUSED = "not there: the key is refused"
"""The word for a limit that a program has not: agents.yaml with its key is not valid."""


class Wiring(NamedTuple):
    """What leads a program to the model server: variables of the user's shell, and keys of its agent."""

    env: Mapping[str, str]
    keys: Mapping[str, Any]


class Driver(NamedTuple):
    """One program. Its tools, and what it does otherwise than the others.

    `server` is called with the scripts, `wire` with it and the user's home. `key`: the variable with the secret.
    `write`: steps that put a text into a file, `run`: a command, None = it has no shell. `say`: how it gives its word,
    from where a result file would be and the word; `judge`: the same for a reviewer; `done`: how the model says that it
    is done. `limited`: 429, good again after so many seconds; `limited_env`: the variables to try that with. `program`:
    what scripts/install-agents calls it, "" = it comes with octopoid. `differs`: by case, what it does instead of what
    is promised for all.
    """

    adapter: str
    server: Callable[[Mapping[str, Steps]], Any]
    wire: Callable[[Any, Path], Wiring]
    key: str
    write: Callable[[str, str], Steps]
    run: Callable[[str], Step] | None
    say: Callable[[Path, Mapping[str, Any]], Steps]
    judge: Callable[[Mapping[str, Any]], Steps]
    done: Callable[[str], Step] = text
    program: str = ""
    limited: Callable[[int], Step] = lambda seconds: error(429, message="Rate limit reached", retry_after=str(seconds))
    limited_env: Mapping[str, str] = {}
    differs: Mapping[str, str] = {}

    def work(self, name: str = "work.txt", content: str = "work") -> Steps:
        """Write a file and commit it; without a shell octopoid commits it."""
        steps = list(self.write(name, content))
        return [*steps, self.run(f"git add {name} && git commit -q -m 'Add {name}'")] if self.run else steps


# --- the programs ------------------------------------------------------------------------------------------------


def _shell(name: str, key: str, **more: Any) -> Callable[[str], Step]:
    return lambda command: tool(name, **{key: command}, **more)


def _by_file(run: Callable[[str], Step], path: Path, word: Mapping[str, Any]) -> Steps:
    """A result file, from the shell; then a last sentence that is in the conversation."""
    return [run(f'printf %s {shlex.quote(json.dumps(word))} > "$OCTOPOID_RESULT_FILE"'), text(str(word["summary"]))]


def _by_tool(name: str, word: Mapping[str, Any]) -> Steps:
    return [several(text(str(word["summary"])), tool(name, **word))]


def _in_words(word: Mapping[str, Any]) -> Steps:
    return [text(json.dumps(word))]


_bash = _shell("Bash", "command", description="scripted")
_exec = _shell("exec_command", "cmd")
_own = _shell("bash", "command")


def _claude_wire(server: ModelServer, _home: Path) -> Wiring:
    names = ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"]
    return Wiring({"ANTHROPIC_BASE_URL": server.url}, {"env": names})


def _claude_limited(seconds: int) -> Step:
    """A subscription's: with an API key there is no such word, and Claude does not pass `retry-after` on."""
    unified = {"status": "rejected", "reset": str(int(time.time()) + seconds), "representative_claim": "five_hour"}
    return error(429, **{f"anthropic_ratelimit_unified_{key}": value for key, value in unified.items()})


def _codex_wire(server: OpenAIServer, _home: Path) -> Wiring:
    args = ["-c", f'openai_base_url="{server.base}"']
    return Wiring({}, {"env": ["CODEX_API_KEY"], "model": "gpt-5.5-codex", "args": args})


def _patch(name: str, content: str) -> Steps:
    return [tool("apply_patch", patch=f"*** Begin Patch\n*** Add File: {name}\n+{content}\n*** End Patch\n")]


def _codex_limited(seconds: int) -> Step:
    """A subscription's; told to the minute."""
    said = {"type": "usage_limit_reached", "message": "x", "plan_type": "plus"}
    return error(429, message=json.dumps({"error": {**said, "resets_at": int(time.time()) + seconds}}))


def _gemini_wire(server: GeminiServer, _home: Path) -> Wiring:
    return Wiring({}, {"env": ["GEMINI_API_KEY"], "model": "gemini-2.5-pro", "base_url": server.url})


def _opencode_wire(server: ChatServer, home: Path) -> Wiring:
    """A provider of the user's own, in their configuration: of those that it knows it takes known models only."""
    options = {"baseURL": server.base, "apiKey": "{env:OPENAI_API_KEY}"}
    models = {"m": {"name": "m", "tool_call": True, "limit": {"context": 200_000, "output": 8_000}, "cost": _COST}}
    local = {"npm": "@ai-sdk/openai-compatible", "name": "local", "options": options, "models": models}
    path = home / ".config/opencode/opencode.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provider": {"local": local}}), encoding="utf-8")
    names = ["OPENAI_API_KEY", "OPENCODE_DISABLE_MODELS_FETCH"]
    return Wiring({"OPENCODE_DISABLE_MODELS_FETCH": "1"}, {"env": names, "model": "local/m"})


def _aider_wire(server: ChatServer, _home: Path) -> Wiring:
    """It asks for whole files: a listing with the name of its file."""
    args = ["--edit-format", "whole"]
    return Wiring({}, {"env": ["OPENAI_API_KEY"], "model": "openai/fake-model", "base_url": server.base, "args": args})


def _listing(name: str, content: str) -> Steps:
    return [text(f"Here it is.\n\n{name}\n```\n{content}\n```\n")]


def _mini_wire(server: ChatServer, _home: Path) -> Wiring:
    """A model that litellm knows the price of."""
    return Wiring({}, {"env": ["OPENAI_API_KEY"], "model": "openai/gpt-4o", "base_url": server.base})


def _mini_done(said: str) -> Step:
    return _own(f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; printf %s {shlex.quote(said)}")


def _echoed(run: Callable[[str], Step], name: str, content: str) -> Steps:
    return [run(f"echo {shlex.quote(content)} > {name}")]


def _anthropic_wire(server: ModelServer, _home: Path) -> Wiring:
    return Wiring({}, {"env": ["ANTHROPIC_API_KEY"], "base_url": server.url, "model": "sonnet"})


DRIVERS: dict[str, Driver] = {
    one.adapter: one
    for one in (
        Driver(
            adapter="claude",
            program="claude",
            server=ModelServer,
            wire=_claude_wire,
            key="ANTHROPIC_API_KEY",
            write=lambda name, content: [tool("Write", file_path=name, content=f"{content}\n")],
            run=_bash,
            say=lambda path, word: [
                tool("Write", file_path=str(path), content=json.dumps(word)),
                text(str(word["summary"])),
            ],
            judge=partial(_by_tool, "StructuredOutput"),
            limited=_claude_limited,
            limited_env={"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"},
        ),
        Driver(
            adapter="codex",
            program="codex",
            server=OpenAIServer,
            wire=_codex_wire,
            key="CODEX_API_KEY",
            write=_patch,
            run=_exec,
            say=partial(_by_file, _exec),
            judge=_in_words,
            limited=_codex_limited,
            differs={
                "turn limit": REFUSED,
                "budget limit": REFUSED,
                "all tools denied": "landed: it knows no lists of tools",
            },
        ),
        Driver(
            adapter="anthropic",
            server=ModelServer,
            wire=_anthropic_wire,
            key="ANTHROPIC_API_KEY",
            write=lambda name, content: [
                tool("str_replace_based_edit_tool", command="create", path=name, file_text=f"{content}\n")
            ],
            run=_own,
            say=lambda _path, word: _by_tool("finish", word),
            judge=partial(_by_tool, "finish"),
            differs={"program missing": "not there: it comes with octopoid"},
        ),
        Driver(
            adapter="gemini",
            program="gemini",
            server=GeminiServer,
            wire=_gemini_wire,
            key="GEMINI_API_KEY",
            write=lambda name, content: [tool("write_file", file_path=name, content=f"{content}\n")],
            run=_shell("run_shell_command", "command", description="scripted"),
            say=lambda path, word: [
                tool("write_file", file_path=str(path), content=json.dumps(word)),
                text(str(word["summary"])),
            ],
            judge=_in_words,
            limited=lambda seconds: error(429, message=quota(seconds)),
            differs={
                "budget limit": REFUSED,
                "429 with reset": "waits by itself; uncharged: rate limit, it does not say until when",
            },
        ),
        Driver(
            adapter="opencode",
            program="opencode",
            server=ChatServer,
            wire=_opencode_wire,
            key="OPENAI_API_KEY",
            write=lambda name, content: [tool("write", filePath=name, content=f"{content}\n")],
            run=_shell("bash", "command", description="scripted"),
            say=lambda path, word: [
                tool("write", filePath=str(path), content=json.dumps(word)),
                text(str(word["summary"])),
            ],
            judge=_in_words,
            differs={
                "budget limit": REFUSED,
                "429 with reset": "waits by itself; uncharged: rate limit, it does not say until when",
            },
        ),
        Driver(
            adapter="aider",
            program="aider",
            server=partial(ChatServer, tools=False),
            wire=_aider_wire,
            key="OPENAI_API_KEY",
            write=_listing,
            run=None,
            say=lambda _path, word: [text(f"{word['summary']}\n\n{json.dumps(word)}")],
            judge=_in_words,
            differs={
                "question": "waits, then landed anew",
                "all tools denied": "landed: it knows no lists of tools",
                "turn limit": REFUSED,
                "budget limit": REFUSED,
                "grandchildren left": "not there: it runs no commands",
                "429 with reset": "waits by itself; uncharged: rate limit, it does not say until when",
            },
        ),
        Driver(
            adapter="mini-swe-agent",
            program="mini-swe-agent",
            server=ChatServer,
            wire=_mini_wire,
            key="OPENAI_API_KEY",
            write=partial(_echoed, _own),
            run=_own,
            say=lambda path, word: [_by_file(_own, path, word)[0], _mini_done(str(word["summary"]))],
            judge=lambda word: [_mini_done(json.dumps(word))],
            done=_mini_done,
            differs={
                "question": "waits, then landed anew",
                "all tools denied": "landed: it knows no lists of tools",
                "reviewer tries to write": "thrown away, told",
            },
        ),
    )
}


@cache
def installed(name: str) -> Path:
    """The program that scripts/install-agents installs under this name. Several at once are safe."""
    argv = [PROJECT / "scripts/install-agents", name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def version(driver: Driver) -> str:
    """Which one is driven: what is installed is in a folder of that name; the built-in agent is its SDK."""
    if not driver.program:
        return f"SDK {metadata.version('anthropic')}"
    found = re.search(rf"/{re.escape(driver.program)}-(\d[^/]*)/", str(installed(driver.program)))
    return found[1] if found else "?"
