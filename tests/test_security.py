"""What untrusted text, files and answers try, and what stops them (docs/security.md names each of these)."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import OCTOPOID, Repo, commit, drop, git, init, landed, script, state_of, write_config

from octopoid import (
    attempts,
    credentials,
    durable,
    evidence,
    journal,
    legible,
    locks,
    prompts,
    results,
    sections,
    taskfile,
    yamltext,
)
from octopoid import setup as installing
from octopoid.adapters import ADAPTERS, base
from octopoid.cli import common
from octopoid.errors import Conflict, Invalid
from octopoid.layout import refuse_links
from octopoid.model import Opening, Task
from octopoid.prompts import Prompt
from octopoid.settings import Role
from octopoid.states import State

EVIL = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b]8;;https://evil\x07link\x1b]8;;\x07\x9b31m\u202egnp\u200b\U000e0041\x1b[2Jend"
HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\U000e0000-\U000e0fff]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
MB = 1 << 20


def harmless(text: str) -> bool:
    return not HIDDEN.search(COLOURS.sub("", text))


def on_terminal(repo: Repo, *args: str) -> str:
    """What a person at a terminal gets, on stdout and stderr."""
    master, slave = pty.openpty()
    env = {**repo.env, "TERM": "xterm-256color"}
    program = subprocess.Popen(
        [str(OCTOPOID), *args], cwd=repo.root, env=env, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    program.wait(20)
    os.close(master)
    return seen.decode("utf-8", "replace").replace("\r\n", "\n")


def in_seconds(limit: float, work: Callable[[], object]) -> None:
    """CPU seconds: other tests run on this machine."""
    before = time.process_time()
    work()
    assert time.process_time() - before < limit


# --- names and paths ---


def test_a_name_that_looks_like_an_option_is_no_task(repo: Repo) -> None:
    init(repo)
    for name in ("--help", "-rf", "a..b", "x.lock"):
        drop(repo, name, "# Options\n")
    found = repo.octopoid("list", "--json").json()
    assert {one["reason"] for one in found["tasks"]} == {"invalid"} and len(found["invalid"]) == 4
    script(repo, {})
    repo.octopoid("run", "--once")
    assert state_of(repo, "--help") is State.INCOMING, "where it is, untouched"


def test_a_path_is_no_id(repo: Repo) -> None:
    init(repo)
    (repo.layout.roles / "mine.md").write_text("Text.\n")
    for word in ("../../roles/mine", "../incoming/../../roles/mine", str(repo.layout.roles / "mine")):
        for verb in ("cancel", "show"):
            assert repo.octopoid(verb, word, ok=None).status == 3
    assert (repo.layout.roles / "mine.md").exists()


@pytest.mark.parametrize(
    "head",
    [
        *("depends_on: [../x]", "depends_on: [--help]", "parent: ../../x", "role: ../x", "flow: -x", "project: a/b"),
        *("base: --upload-pack=x", "base: HEAD:path", "base: '@{-1}'", "base: refs/tags/v1", "base: a..b", "base: -"),
        *("role: '{{ 7 }}'", 'labels: ["\\e]0;x"]', "base: main^{tree}", "base: 'a b'"),
    ],
)
def test_words_that_are_paths_options_or_revisions_are_refused(head: str) -> None:
    with pytest.raises(Invalid):
        taskfile.parse(f"---\n{head}\n---\n# T\n".encode(), Path("t.md"))


# --- links ---


@pytest.mark.parametrize(
    "name",
    [
        *("queue", "queue/incoming", "queue/archive/done", "queue/.moving", "attempts", "run", "worktrees"),
        *("run/scheduler.lock", "run/wake", "run/moving.lock", "run/pause", "events.jsonl", "."),
    ],
)
def test_what_octopoid_writes_to_is_no_link(repo: Repo, tmp_path: Path, name: str) -> None:
    installing.make_folders(repo.layout)
    place, outside = repo.layout.home / name, tmp_path / "outside"
    if place.is_dir():
        place.rename(outside)
    else:
        outside.write_bytes(b"")
    Path(str(place)).symlink_to(outside)
    with pytest.raises(Conflict, match="is a link"):
        refuse_links(repo.layout)


def test_a_linked_queue_is_told_and_not_followed(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    outside = tmp_path / "outside"
    repo.layout.folder(State.INCOMING).rename(outside)
    repo.layout.folder(State.INCOMING).symlink_to(outside)
    answer = repo.octopoid("enqueue", "Write there", ok=(5,))
    assert "incoming is a link" in answer.err and not list(outside.iterdir())


def test_a_link_is_not_followed_by_who_writes(repo: Repo, tmp_path: Path) -> None:
    init(repo)
    target = tmp_path / "target"
    for link in (repo.layout.events, repo.layout.run / "some.lock", repo.layout.entries("t")):
        link.symlink_to(target)
    with pytest.raises(OSError):
        journal.append(repo.layout, journal.Event(0.0, "enqueue", "t"))
    with pytest.raises(OSError):
        locks.take(repo.layout.run / "some.lock")
    with pytest.raises(Conflict):
        attempts.begin(repo.layout, "t", Opening("say", 0.0))
    assert not target.exists()


# --- terminals ---


def test_nothing_that_somebody_wrote_acts_on_a_terminal(repo: Repo) -> None:
    """Titles, labels, questions, file names, logs, errors and diffs; on a terminal and in a pipe."""
    init(repo)
    payload = repo.root.parent / "payload"
    payload.write_text(f"{EVIL}\n")
    write_config(
        repo,
        json.dumps(
            {
                "version": 1,
                "base": "main",
                "gates": ["human"],
                "agents": {
                    "i": {
                        "role": "implementer",
                        "adapter": "command",
                        "command": f"cat {payload}; cp {payload} new.txt",
                    }
                },
            }
        ),
    )
    drop(repo, "work", f"# Title {EVIL}\n\nBody {EVIL}\n")
    drop(repo, "asks", f"---\nlabels: ['{EVIL}']\n---\n# X\n")
    (repo.layout.folder(State.INCOMING) / f"x{EVIL.replace('/', '')}.md").write_text("# Y\n")
    repo.octopoid("run", "--until-empty", ok=None)
    assert state_of(repo, "work") is State.PROVISIONAL
    verbs = (
        "status",
        "list",
        "lint",
        "events",
        "doctor",
        "show work",
        "why work",
        "log work",
        "diff work",
        "thread work",
    )
    for verb in verbs:
        assert harmless(on_terminal(repo, *verb.split())), verb
    for verb in ("status", "lint", "show work", "show nothing\x1b]0;owned\x07", "diff work --stat"):
        answer = repo.octopoid(*verb.split(" ", 1), ok=None)
        assert harmless(answer.out + answer.err), verb
    piped = repo.octopoid("diff", "work").out
    assert f"+{EVIL}" in piped.splitlines(), "a patch for a program is what it is"
    assert "\x1b[32m+" in on_terminal(repo, "--color", "always", "diff", "work")


def test_json_on_a_terminal_means_the_same(repo: Repo) -> None:
    init(repo)
    drop(repo, "first", f"# T {EVIL}\n".replace("\x1b", "").replace("\x07", ""))
    drawn = on_terminal(repo, "list", "--json")
    assert harmless(drawn.partition("next:")[0].replace("owned", ""))
    assert json.loads(drawn.partition("next:")[0]) == repo.octopoid("list", "--json").json()


def test_a_shell_completes_nothing_but_ids(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    init(repo)
    for name in ("good", "go$(touch x)", "go\x1b]0;x", "-go"):
        (repo.layout.folder(State.INCOMING) / f"{name}.md").write_text("# T\n")
    monkeypatch.chdir(repo.root)
    assert common.complete_ids("") == ["good"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x1b[0mc", "abc"),
        ("a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x1b]52;c;eA==", "a"),
        ("a\x9b31mb\x85", "a\ufffd31mb\ufffd"),
        ("a\u202eb\u200bc\u2066d\ufeff", "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("pay\u200dpal \U000e0041", "pay\ufffdpal \ufffd"),
        ("\U0001f469\u200d\U0001f52c می\u200cخواهم", "\U0001f469\u200d\U0001f52c می\u200cخواهم"),
        ("tab\tnew\nline\r\n", "tab\tnew\nline\n"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert legible.clean_text(text) == shown
    assert json.loads(legible.escaped(json.dumps({"a": text}, ensure_ascii=False, indent=1))) == {"a": text}


# --- templates ---

TEMPLATES = {
    "range": "{{ range(1000000000) }}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "product": "{{ 'a' * 9999999999 }}",
    "width": "{{ '{:>9999999999}'.format(1) }}{{ 'a'|center(9999999999) }}",
    "doubled": "{% set x = 'aaaaaaaaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
    "deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "file": "{% include '../../../../etc/passwd' %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_reaches_nothing_and_ends(name: str) -> None:
    if name in ("width", "doubled") and not Path("/proc/self/statm").exists():
        pytest.skip("memory is bounded on Linux")
    found: list[object] = []
    in_seconds(10, lambda: found.extend(prompts.check(Role("evil", TEMPLATES[name], source="evil.md"))))
    assert found


def test_the_text_of_a_task_is_no_template() -> None:
    text = "{{ 7 * 7 }} {% include 'asked' %} ``` ~~~ {{ task.__class__ }}"
    prompt = Prompt(Task("t", text, body=text), "implement", 1, "main", "0" * 40, "/result.json")
    assert prompts.render(Role("r", "{{ task.title }}\n{{ task.body | fence }}"), prompt).count(text) == 2


# --- bombs ---

ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + at)}: &{chr(98 + at)} [{','.join(['*' + chr(97 + at)] * 9)}]\n" for at in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        *(ALIASES, "a: " + "[" * 60_000, "a: " + "{a: " * 15_000, "- " * 30_000 + "x", "? " * 30_000, "a: *b\n"),
        *("a: &a [*a]", "!!python/object/apply:os.system [x]", "a: 1\na: 2", "<<: {a: 1}\na: !!binary x"),
    ],
    ids=lambda text: text[:20],
)
def test_yaml_is_bounded(repo: Repo, text: str) -> None:
    """PyYAML's C composer ends the process with SIGSEGV at some ten thousand levels."""
    with pytest.raises(Invalid):
        yamltext.load(text, Path("agents.yaml"))
        raise Invalid("only what is refused later") if text.startswith("<<") else AssertionError
    with pytest.raises(Invalid):
        taskfile.parse(f"---\n{text}\n---\n# T\n".encode(), Path("t.md"))


def test_a_bomb_takes_only_itself_down(repo: Repo) -> None:
    init(repo)
    drop(repo, "bomb", "---\nlabels: " + "[" * 60_000 + "\n---\n# Bomb\n")
    drop(repo, "good", "# Good\n")
    deep = "---\nname: deep\ndescription: " + "[" * 60_000 + "\n---\nText.\n"
    wide = "---\nname: wide\n" + ALIASES + "tools: [*m]\n---\nText.\n"
    commit(repo, {".claude/agents/deep.md": deep, ".claude/agents/wide.md": wide})
    found = repo.octopoid("list", "--json").json()["tasks"]
    assert {one["id"]: one["reason"] for one in found} == {"good": "", "bomb": "invalid"}
    repo.octopoid("roles", ok=(0, 4))
    for name in ("deep", "wide"):
        answer = repo.octopoid("roles", name, ok=None)
        assert (answer.status in (3, 4) and "not supported" in answer.err + answer.out) or "deeply" in answer.err, (
            answer
        )


@pytest.mark.parametrize(
    "data",
    [
        *(b'{"questions":' + b"[" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        *(b'{"outcome":"done","outcome":"failed"}', b'{"usage":{"usd":NaN}}', b'{"usage":{"usd":1e999}}'),
        *(b'{"usage":{"input_tokens":' + b"9" * 900_000 + b"}}", b"\xff\xfe{}", b" " * (MB + 1), b'{"__proto__": 1}'),
        *(b'{"handoff_to": "../../x", "outcome": "handoff"}x', b'{"subtasks": [{"title": "x", "key": ["../y"]}]}'),
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_a_result_is_bounded(data: bytes) -> None:
    before = time.process_time()
    with pytest.raises(Invalid):
        results.parse(data)
    assert time.process_time() - before < 2


LINES = {
    "deep": b'{"type":' + b"[" * 60_000 + b"]" * 60_000 + b"}",
    "deeper": b'{"type":' * 60_000 + b"1" + b"}" * 60_000,
    "numbers": b'{"type":"result","usage":{"input_tokens":NaN,"output_tokens":1e999},"total_cost_usd":-1}',
    "digits": b'{"type":"result","usage":{"input_tokens":' + b"9" * 100_000 + b"}}",
    "types": b'{"type":{"a":1},"message":[1],"usage":"x","item":7,"part":[],"error":3}',
    "braces": b"{" * MB,
    "escapes": b"\x1b[" * (MB // 2),
    "blanks": b" " * MB,
    "tokens": b"tokens used: " * (MB // 13),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_line_of_a_stream_takes_long_or_raises(adapter: str) -> None:
    for line in LINES.values():
        in_seconds(2, lambda line=line: base.hear(ADAPTERS[adapter], line))  # type: ignore[misc]  # it is called at once


WORST = {
    "escapes": "\x1b[" * (MB // 2),
    "colour without end": "\x1b[" + "0" * MB,
    "blanks in it": "\x1b[" + " " * MB,
    "titles": "\x1b]" * (MB // 2),
    "backticks": "`" * MB,
    "fences": "~~~\n" * (MB // 4),
    "boxes": "- [ ] x :: \n" * (MB // 12),
    "dashes": "---\n" * (MB // 4),
    "marks": "<!-- octopoid:" * (MB // 14),
    "sections": "<!-- octopoid:feedback -->\n" * (MB // 27),
    "returns": "\r" * MB,
    "joiners": "\u200d" * (MB // 3),
    "keys": "---\n" + "a: b\n" * (MB // 5),
}
READERS: dict[str, Callable[[str], object]] = {
    "clean_text": legible.clean_text,
    "escaped": lambda text: legible.escaped(text[: MB // 8]),
    "one_line": legible.one_line,
    "bounded": results.bounded,
    "sections": lambda text: sections.spans(text.encode()),
    "put": lambda text: sections.put(b"# T\n", "feedback", text),
    "fence": prompts.fence,
    "printable": lambda text: evidence._printable(text[: 256 * 1024]),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_megabyte_of_the_worst_is_read_in_no_time(reader: str) -> None:
    for text in WORST.values():
        in_seconds(3, lambda text=text: READERS[reader](text))  # type: ignore[misc]  # it is called at once


def test_a_megabyte_of_the_worst_is_no_hard_task() -> None:
    for text in WORST.values():
        in_seconds(3, lambda text=text: _parse(text))  # type: ignore[misc]  # it is called at once


def _parse(text: str) -> None:
    for data in (text.encode(), b"# T\n" + text.encode()):
        try:
            taskfile.parse(data, Path("t.md"))
        except Invalid:
            continue


# --- git ---


def test_a_tag_is_not_taken_for_the_branch_of_its_name(repo: Repo) -> None:
    git(repo, "tag", "main")
    git(repo, "tag", "only-a-tag")
    script(repo, {})
    write_config(
        repo,
        "version: 1\nbase: main\ngates: []\n"
        'agents: {i: {role: implementer, adapter: command, command: "date > new"}}\n',
    )
    drop(repo, "work", "# Work\n")
    drop(repo, "lost", "---\nbase: only-a-tag\n---\n# Lost\n")
    repo.octopoid("run", "--until-empty", ok=None)
    assert landed(repo, "refs/heads/main") == ("work",) and git(repo, "rev-parse", "refs/tags/main^{commit}") != git(
        repo, "rev-parse", "refs/heads/main"
    )
    assert state_of(repo, "lost") is not State.DONE


@pytest.mark.parametrize("said", ["--dangerously-skip-permissions", "-c", "--yolo"])
def test_a_model_is_no_option(repo: Repo, said: str) -> None:
    init(repo)
    write_config(repo, f"version: 1\nagents: {{i: {{role: implementer, adapter: gemini, model: '{said}'}}}}\n")
    assert "`model`" in repo.octopoid("config", "check", ok=(4,)).out


# --- secrets, and who may read ---

TOKEN, PASSWORD = "tok-0123456789abcdef", "hunter2-hunter2"
LEAKS = """\
echo "key $MY_TOKEN db $DATABASE_URL"
echo new > new.txt
said='{"outcome": "failed", "feedback": "used %s", "summary": "%s"}'
printf "$said" "$MY_TOKEN" "$DATABASE_URL" > "$OCTOPOID_RESULT_FILE"
"""


def test_secrets_stay_in_the_log_of_the_attempt_and_that_is_private(repo: Repo) -> None:
    init(repo)
    agent = {"role": "implementer", "adapter": "command", "command": LEAKS, "env": ["MY_TOKEN", "DATABASE_URL"]}
    write_config(
        repo, json.dumps({"version": 1, "base": "main", "gates": [], "limits": {"attempts": 1}, "agents": {"i": agent}})
    )
    drop(repo, "leak", "# Leak\n")
    env = {"MY_TOKEN": TOKEN, "DATABASE_URL": f"postgres://bo:{PASSWORD}@db/x"}
    argv = ["sh", "-c", f'umask 0; exec "{OCTOPOID}" run --until-empty']
    subprocess.run(argv, cwd=repo.root, env={**repo.env, **env}, capture_output=True, check=False, timeout=60)
    told = [
        repo.octopoid(*verb.split(), env=env)
        for verb in ("log leak", "show leak", "thread leak", "status --json", "events")
    ]
    assert not [one for one in told if TOKEN in one.out + one.err or PASSWORD in one.out + one.err]
    assert "[MY_TOKEN]" in told[0].out and "[DATABASE_URL]" in told[0].out
    assert TOKEN in repo.octopoid("log", "leak", "--raw", env=env).out, "every byte, for who asks for every byte"
    files = [path for path in repo.layout.home.rglob("*") if path.is_file()]
    assert {path.name for path in files if TOKEN in path.read_text("utf-8", "replace")} == {"output.log", "result.json"}
    loose = [
        path
        for top in (repo.layout.run, repo.layout.attempts)
        for path in (top, *top.rglob("*"))
        if path.name != "result.json" and path.lstat().st_mode & 0o077  # that one is the agent's own file
    ]
    assert loose == [] and stat.S_IMODE(repo.layout.events.stat().st_mode) == 0o600
    assert stat.S_IMODE((repo.layout.home / "worktrees").stat().st_mode) == 0o700


def test_folders_of_an_older_octopoid_become_private(repo: Repo) -> None:
    init(repo)
    for folder in (repo.layout.run, repo.layout.attempts):
        folder.chmod(0o755)
    installing.make_private(repo.layout)
    assert {stat.S_IMODE(one.stat().st_mode) for one in (repo.layout.run, repo.layout.attempts)} == {0o700}


def test_a_scratch_folder_is_nobody_elses(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    place = attempts.scratch_place(entry)
    place.mkdir()
    place.chmod(0o777)
    try:
        assert stat.S_IMODE(attempts.scratch(entry).stat().st_mode) == 0o700
    finally:
        place.rmdir()


def test_what_lies_in_a_private_folder_is_private(tmp_path: Path) -> None:
    for mode, wanted in ((0o700, 0o600), (0o755, 0o644)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        mask = os.umask(0)
        durable.write(folder / "file", b"1")
        os.umask(mask)
        assert stat.S_IMODE((folder / "file").stat().st_mode) == wanted


def test_which_variables_are_secrets() -> None:
    env = {
        "MY_KEY": 'a"b\\cdef',
        "SSH_AUTH_SOCK": "/tmp/ssh-x",
        "KEYTIMEOUT": "1",
        "DATABASE_URL": "pg://u:passw0rd@h",
        "PATH": "/bin:/usr/bin",
        "OTHER_URL": "pg://u:passw1rd@h",
    }
    known = credentials.secrets(env, ["MY_KEY", "DATABASE_URL"])
    assert {(one.name, one.value) for one in known} == {
        ("MY_KEY", 'a"b\\cdef'),
        ("DATABASE_URL", "passw0rd"),
        ("DATABASE_URL", "pg://u:passw0rd@h"),
    }
    said = json.dumps({"text": f"is {env['MY_KEY']}"}) + " passw0rd"
    assert credentials.hidden(said, known) == '{"text": "is [MY_KEY]"} [DATABASE_URL]'
