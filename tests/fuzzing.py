"""What reads text that somebody else wrote, as functions of bytes: for hypothesis (test_fuzz.py) and `scripts/fuzz`.

A target returns for whatever it is given, or raises what its reader says it raises; anything else is a bug.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from octopoid import (
    config,
    evidence,
    fold,
    journal,
    jsontext,
    legible,
    prompts,
    results,
    rolefiles,
    sections,
    steer,
    taskfile,
)
from octopoid.adapters import ADAPTERS, Evidence, base
from octopoid.adapters.events import told
from octopoid.errors import Invalid
from octopoid.layout import Layout
from octopoid.model import Entry
from octopoid.settings import Agent
from octopoid.tally import Tally

POLICY = b"version: 1\nbase: main\nagents: {a: {role: implementer, adapter: scripted, script: s.json}}\n"
_PLACE = tempfile.TemporaryDirectory(prefix="octopoid-fuzz-")  # some readers read files; it goes with the process
PLACE = Path(_PLACE.name)


def task(data: bytes) -> None:
    """A task file; and what is written into one that is valid leaves its other bytes as they are."""
    with contextlib.suppress(Invalid):
        taskfile.parse(data, Path("work.md"))
        changed = sections.put(data, "feedback", "No.\n<!-- octopoid:end -->\nNo.")
        kept, was = sections.strip(changed), sections.strip(data)
        assert kept[: len(was)] == was and kept[len(was) :].strip(b"\r\n") == b""
        taskfile.parse(changed, Path("work.md"))


def policy(data: bytes) -> None:
    """agents.yaml."""
    home = PLACE / "policy"
    home.mkdir(exist_ok=True)
    (home / "agents.yaml").write_bytes(data)
    with contextlib.suppress(Invalid):
        config.load(home)


def flow(data: bytes) -> None:
    """A flow of the user's."""
    home = PLACE / "flow"
    (home / "flows").mkdir(parents=True, exist_ok=True)
    (home / "agents.yaml").write_bytes(POLICY)
    (home / "flows/mine.yaml").write_bytes(data)
    with contextlib.suppress(Invalid):
        config.load(home)


def role(data: bytes) -> None:
    """A role's file, template and all."""
    with contextlib.suppress(Invalid):
        prompts.check(rolefiles.parse(Path("mine.md"), data, "mine.md"))


def result(data: bytes) -> None:
    """What an agent leaves in $OCTOPOID_RESULT_FILE."""
    with contextlib.suppress(Invalid):
        read = results.parse(data)
        assert results.load(results.dump(read)) == read


def records(data: bytes) -> None:
    """attempt.json and outcome.json; what can be read can be folded."""
    for load in (jsontext.load_opening, jsontext.load_outcome):
        with contextlib.suppress(ValueError):
            load(data)
    with contextlib.suppress(ValueError):
        first, _, second = data.partition(b"\n")
        fold.fold((Entry(1, jsontext.load_opening(first), jsontext.load_outcome(second)),))


def exits(data: bytes) -> None:
    """exit.json and facts.json."""
    entry = PLACE / "entry"
    entry.mkdir(exist_ok=True)
    for name, read in (("exit.json", evidence.read_exit), ("facts.json", evidence.read_facts)):
        (entry / name).write_bytes(data)
        with contextlib.suppress(Invalid):
            read(entry)


def events(data: bytes) -> None:
    """events.jsonl."""
    layout = Layout(PLACE / "events")
    layout.home.mkdir(parents=True, exist_ok=True)
    layout.events.write_bytes(data)
    list(journal.read(layout))


def breakers(data: bytes) -> None:
    """run/breakers.json."""
    layout = Layout(PLACE / "breakers")
    layout.run.mkdir(parents=True, exist_ok=True)
    layout.breakers.write_bytes(data)
    with contextlib.suppress(Invalid):
        steer.breakers(layout)


def stream(name: str) -> Callable[[bytes], None]:
    """What the program of an adapter prints: told, added up, and read at its end."""

    def read(data: bytes) -> None:
        adapter, tally = ADAPTERS[name], Tally()
        for line in data.splitlines():
            for event in base.hear(adapter, line) or ():
                told(event)
                tally.add(event, len(line))
        tally.usage()
        entry = PLACE / name
        entry.mkdir(exist_ok=True)
        (entry / "output.log").write_bytes(data)
        agent = Agent("a", "implementer", name, command=("a-program",))
        for status in (0, 1):
            adapter.read(agent, Evidence(status, None, "exit", entry / "output.log", 0, len(data)))

    return read


def text(data: bytes) -> None:
    """What is shown in a terminal: no escape, no control character, no other direction."""
    shown = legible.clean_text(data.decode("utf-8", "replace"))
    bad = {
        *map(chr, range(32)),
        *map(chr, range(0x7F, 0xA0)),
        *"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    }
    assert not (bad - {"\n", "\t"}) & set(shown)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "task": task,
    "policy": policy,
    "flow": flow,
    "role": role,
    "result": result,
    "records": records,
    "exits": exits,
    "events": events,
    "breakers": breakers,
    "text": text,
    **{f"stream-{name}": stream(name) for name in sorted(ADAPTERS)},
}

_EXIT = {
    "ended": 1.0,
    "stopped": False,
    "steps": [{"name": "agent", "status": 0, "signal": None, "ended_by": "exit", "log_start": 0, "log_end": 9}],
}
_CLAUDE = (
    b'{"type":"system","subtype":"init","session_id":"s","model":"m"}\n'
    b'{"type":"assistant","message":{"id":"1","model":"m","content":[{"type":"tool_use","name":"Bash","input":'
    b'{"command":"ls"}}],"usage":{"input_tokens":1,"output_tokens":2}}}\n'
    b'{"type":"result","subtype":"success","is_error":false,"num_turns":1,"total_cost_usd":0.1,"result":"Done."}\n'
)
_CODEX = (
    b'{"type":"thread.started","thread_id":"t"}\n{"type":"turn.started"}\n'
    b'{"type":"item.completed","item":{"id":"i","type":"command_execution","command":"ls","exit_code":0}}\n'
    b'{"type":"turn.completed","usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":2}}\n'
)

SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "task": (
        b"---\npriority: P1\ndepends_on: [a, b]\nnot_before: 2026-12-01T09:00:00+01:00\nx-own: {a: 1}\n---\n# Title\n\n"
        b"Text.\n\n## Acceptance criteria\n- [ ] one\n- [ ] two :: pytest -q\n",
        b"\xef\xbb\xbf---\r\nlabels: [ui]\r\n---\r\n# T\r\n\r\n"
        b"<!-- octopoid:feedback -->\r\nx\r\n<!-- octopoid:end -->\r\n",
    ),
    "policy": (
        POLICY,
        b"version: 1\nbase: main\nmax_agents: 4\nchecks:\n  - {name: tests, run: pytest -q, timeout: 20m}\n"
        b"gates: [checks, [gatekeeper, human]]\nland: {mode: merge}\nlimits: {attempts: 3, usd_per_task: 5}\n"
        b"agents:\n  a: {roles: all, adapter: command, command: [x], env: [KEY], sandbox: on}\n",
    ),
    "flow": (b"stages:\n  - {name: plan, role: planner, approve: true}\n  - implement\ngates: [checks]\nland: none\n",),
    "role": (
        b"---\nproduces: commits\nwrites: true\n---\nDo {{ task.title }}.\n{% if feedback %}Mind it.{% endif %}\n",
    ),
    "result": (b'{"outcome":"question","questions":["Which?"],"usage":{"input_tokens":1,"usd":0.5},"findings":[]}',),
    "records": (
        b'{"kind":"attempt","at":1.0,"role":"implementer"}\n{"kind":"attempt","class":"ok","charged":false,"reason":""}',
    ),
    "exits": (json.dumps(_EXIT).encode(), b'{"commits":["a"],"changed":["b"],"head":"c"}'),
    "events": (
        b'{"at":"2026-11-21T10:00:00.000Z","event":"claim","task":"a","from":"incoming","to":"claimed","entry":1}\n',
    ),
    "breakers": (b'{"ANTHROPIC_API_KEY":{"until":1.0,"reason":"rate limit","detail":"x","agents":["a"],"trips":1}}',),
    "text": (b"\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \xe2\x80\xae\xc2\x9b31m\r\n",),
    "stream-claude": (_CLAUDE,),
    "stream-codex": (_CODEX,),
}

WORDS = (
    *(
        b"---\n",
        b"\n",
        b"\r\n",
        b": ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"'",
        b"#",
        b"&a ",
        b"*a",
        b"!!",
        b"<<: ",
        b"|\n",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-1",
        b"9" * 400,
        b"0x1F",
        b"1:30:00",
        b"2026-02-30",
        b"\xff",
        b"\x00",
        b"\x1b[",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\\ud800",
        b"{{",
        b"}}",
        b"{% for a in b %}",
        b"{%",
        b"[" * 300,
    ),
    *(
        b"<!-- octopoid:end -->",
        b"<!-- octopoid:questions -->",
        b"## Acceptance criteria\n- [ ] a :: b\n",
        b"depends_on: ",
    ),
)
"""What readers stumble over."""
