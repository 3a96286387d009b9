"""The soak: the tasks and agents of the simulated week, and everything around them goes wrong at random moments.

A daemon and now and then a cron job; tasks that come in by every door; a person who decides, edits, moves and removes
files, steers and changes their mind; SIGKILL and SIGSTOP for everybody; faults (`soakfaults.py`). `soakend.py` looks at
the books at the end. `scripts/soak` runs it in earnest, `tests/test_soak.py` for a moment.

What is done in which turn comes from the seed. To whom, and at which moment of theirs, depends on time: two runs of a
seed differ.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from harness import Background, Repo, drop, eventually, marked, places
from soakfaults import FAULTS, REFUSES, Faults, Space
from soakworld import Verb, World, places_of
from week import Person, Plan, decide, pick, prepare, watch

from octopoid.states import ACTIVE, State

CALM = (0.5, 0.9)
"""The part of the time in which the daemon is not killed: its memory is looked at over one life."""
ARRIVING = 0.85
"""The part of the time in which tasks come in."""
CROWD = 40
"""Tasks under way: then the next one waits outside."""
DEED: Mapping[str, int] = {
    "": 20,
    "decide": 12,
    "look": 10,
    "edit": 12,
    "break": 2,
    "move": 5,
    "remove": 1,
    "cancel": 2,
    "retry": 4,
    "reopen": 3,
    "pause": 3,
    "clean": 2,
    "mend": 2,
    "undo": 3,
    "tidy": 6,
    "cron": 3,
    "stop": 1,
    "kill": 10,
    "freeze": 5,
    "fault": 8,
}
LOOKS = (
    ["status"],
    ["status", "--json"],
    ["list"],
    ["events", "--since", "0"],
    ["doctor"],
    ["lint"],
    ["inbox", "--json"],
)
LOOKS_AT = ("show", "why", "log", "diff", "thread")
KILLED: Mapping[str, int] = {"daemon": 30, "runner": 30, "agent": 40}
FROZEN: Mapping[str, int] = {"daemon": 20, "runner": 30, "agent": 50}
EDITORS = ("vim", "sed", "code")
STEERED: Mapping[tuple[State, State], int] = {
    (State.INCOMING, State.BLOCKED): 25,
    (State.BLOCKED, State.INCOMING): 25,
    (State.CLAIMED, State.INCOMING): 15,
    (State.PROVISIONAL, State.INCOMING): 8,
    (State.CLAIMED, State.BLOCKED): 5,
    (State.INCOMING, State.CLAIMED): 5,
    (State.INCOMING, State.PROVISIONAL): 5,
    (State.INCOMING, State.DONE): 3,
    (State.INCOMING, State.CANCELLED): 4,
    (State.CLAIMED, State.CANCELLED): 3,
    (State.DONE, State.INCOMING): 2,
}
"""What a person moves by hand."""


class Pushed(Person):
    """The week's person; what they decide is a command like all others, and may be killed."""

    def __init__(self, repo: Repo, seed: int, patience: int, soak: Soak) -> None:
        super().__init__(repo, seed, patience)
        self.soak = soak

    def _do(self, move: str, tasks: list[str]) -> None:
        words = {"answer": ("-m", "blue"), "reject": ("-m", "not like this")}.get(move, ())
        self.decisions[move] += len(tasks)
        if move == "cancel":
            self.soak.books.away |= dict.fromkeys(tasks, "cancel")
        self.soak.verb(move, *tasks, *words)


class Soak(World):
    """One soak. `space`: the mount namespace, if there is one."""

    def __init__(self, repo: Repo, plan: Plan, seed: int, seconds: float, space: Space | None) -> None:
        super().__init__(repo, seed, seconds)
        self.plan = plan
        self.faults = Faults(repo, space)
        self.person = Pushed(repo, seed, 3, self)
        self.wake = threading.Event()
        self.pause = 0.35
        """Seconds between two turns, at most."""
        self.deeds = dict(DEED)
        self.turn = self.turns = 0
        """`turns`: how many there must be at least, however slow the machine is."""
        self.thinking = threading.Thread()
        self.busy: set[str] = set()
        """What is open in an editor."""
        self.ids: dict[str, str] = {}
        """Name of a task in the plan → its id."""
        self.coming = list(plan.files)
        self.fixed = self.cleaned = ""
        """What `doctor --fix` and `clean` said at the very end."""
        self.undo = self.repo.octopoid("undo", "--help", ok=None).status == 0

    # --- time ---

    def live(self, say: Callable[[str], None]) -> None:
        """The hours in which everything goes wrong."""
        minute = 60.0
        self.start()
        while self.part() < 1:
            self.turn += 1
            now, chance = self.now(), random.Random(f"{self.seed} {self.turn}")  # noqa: S311 - the same again is the point
            self.catch_up()
            self.arrive(chance)
            deed = pick(chance, self.deeds)
            if deed:
                self.books.deeds[deed] += 1
                self.do(deed, chance)
            self.sample()
            if now > minute:
                minute += 60
                say(self.progress(now))
            self.wake.wait(chance.uniform(0, self.pause))
        self.books.seconds = self.now()

    def part(self) -> float:
        """How much of it is over."""
        passed = self.now() / self.seconds
        return min(passed, self.turn / self.turns) if self.turns else passed

    def do(self, deed: str, chance: random.Random) -> None:
        """One deed. The person, too, gets to feel that the disk refuses."""
        try:
            getattr(self, f"do_{deed}")(chance)
        except OSError:
            if not self.refuses():
                raise

    def run_out(self, patience: int, say: Callable[[str], None]) -> str:
        """No more faults; a person decides what is left, until nothing is. What the scheduler said."""
        if self.thinking.is_alive():
            self.thinking.join()
        self.later = [(0.0, what, end) for _, what, end in sorted(self.later, key=lambda one: one[0])]
        self.wait_for_verbs()
        self.leave()
        self.repo.octopoid("resume", ok=None)
        (self.repo.root / ".git/index.lock").unlink(missing_ok=True)
        self.do_tidy(random.Random(0))  # noqa: S311 - as above
        person = Person(self.repo, self.seed + 1, patience)
        for number in range(1, 60):
            before = person.decisions.total()
            process, log = self.spawn("run", "--until-empty")
            watch(Background(process, log), person)
            for task in places_of(self.layout, State.CANCELLED):
                self.books.away.setdefault(task, "cancel")
            self.do_tidy(random.Random(0))  # noqa: S311 - as above
            left = person.act()
            left += self.mend_breakers() + self.give_up_orphans()
            self.wait_for_verbs()
            say(f"running out, round {number}: {person.decisions.total()} decisions, {left} to come")
            if not left and person.decisions.total() == before:
                break
        self.books.wrong += person.troubles
        return "".join(path.read_text(errors="replace") for path in sorted((self.place / "out").glob("run-*.log")))

    def wait_for_verbs(self) -> None:
        """Until every command has ended and every fault is over."""

        def over() -> bool:
            self.catch_up()
            return not self.verbs and not self.later

        try:
            eventually(over, 120)
        except AssertionError:
            for verb in self.verbs:
                self.books.wrong.append(f"octopoid {' '.join(verb.argv)} did not end within 120 s: {stack(verb)}")
                verb.process.kill()
                verb.process.wait()
            self.books.wrong += [f"{what} does not come to its end" for _, what, _ in self.later]
            self.verbs, self.later = [], []

    # --- tasks come in ---

    def arrive(self, chance: random.Random) -> None:
        """The next task, when its time has come and there is room."""
        share = self.part() / ARRIVING
        due = min(len(self.plan.files), int(share * len(self.plan.files)) + 4)
        came = len(self.plan.files) - len(self.coming)
        if not self.coming or came >= due or share > 1:
            return
        if sum(len(places_of(self.layout, state)) for state in ACTIVE[:3]) > CROWD:
            return
        name = self.coming.pop(0)
        text = self._with_ids(self.plan.files[name])
        door = pick(chance, {"enqueue": 50, "drop": 15, "write": 15, "slow": 10, "mv": 10})
        try:
            getattr(self, f"_by_{door}")(name, text, chance)
        except OSError as error:
            half = self.layout.task_file(State.INCOMING, name)
            self.later.append((self.now(), "take away", lambda: half.unlink(missing_ok=True)))
            if not self.refuses():
                self.books.wrong.append(f"{name} could not be put into the queue: {error}")

    def _with_ids(self, text: str) -> str:
        """A dependency by the id that it got; what never came in is not waited for."""
        return re.sub(
            r"^depends_on: \[(.*)\]\n",
            lambda match: f"depends_on: [{self.ids[match[1]]}]\n" if match[1] in self.ids else "",
            text,
            flags=re.M,
        )

    def _known(self, name: str, task: str, door: str) -> None:
        self.ids[name] = task
        self.books.known[task] = door

    def _by_enqueue(self, name: str, text: str, _: random.Random) -> None:
        draft = self.place / "drafts" / f"{name}.md"
        draft.write_text(text)

        def then(status: int, out: str) -> None:
            if out.endswith("\n"):  # whoever has seen the id may rely on it
                self._known(name, out.strip(), "enqueue")
            elif status == 0:
                self.books.wrong.append(f"octopoid enqueue of {name} ended well and told no id")

        self.verb("enqueue", "-f", draft, then=then)

    def _by_drop(self, name: str, text: str, _: random.Random) -> None:
        drop(self.repo, name, text)
        self._known(name, name, "drop")

    def _by_write(self, name: str, text: str, _: random.Random) -> None:
        drop(self.repo, name, text, settled=False)
        self._known(name, name, "write")

    def _by_mv(self, name: str, text: str, _: random.Random) -> None:
        draft = self.place / "drafts" / f"{name}.md"
        draft.write_text(text)
        draft.rename(self.layout.task_file(State.INCOMING, name))
        self._known(name, name, "mv")

    def _by_slow(self, name: str, text: str, chance: random.Random) -> None:
        """Half of it now, the rest within the two seconds that a file has to settle."""
        path = self.layout.task_file(State.INCOMING, name)
        cut = text.index("\n---\n", 4) + 5
        path.write_text(text[: chance.randint(10, cut)])
        self.busy.add(name)

        def rest() -> None:
            """Where the half is gone by then, so is the rest: the person gave it up."""
            if path.exists():
                path.write_text(text)
                self._known(name, name, "slow")
            self.busy.discard(name)

        self.later.append((self.now() + 0.5, "slow", rest))

    # --- the person ---

    def some(self, chance: random.Random, *states: State) -> tuple[str, State] | None:
        """Any task of these folders."""
        found = [(task, state) for state in states or ACTIVE for task in places_of(self.layout, state)]
        return chance.choice(found) if found else None

    def do_decide(self, _: random.Random) -> None:
        """The person takes their time, and everything else goes on meanwhile."""
        if not self.thinking.is_alive():
            self.thinking = threading.Thread(target=self._decide)
            self.thinking.start()

    def _decide(self) -> None:
        """What waits for a person, as `status` and `list` say."""
        begun = self.now()
        try:
            self.person.act()
            self.mend_breakers()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            if not self.refuses(begun):
                self.books.wrong.append(f"the person cannot look: {error}")

    def mend_breakers(self) -> int:
        """The person does what `status` says about what holds everybody up; how often."""
        needs = self.repo.octopoid("status", "--json").json()["needs_you"]
        commands = [shlex.split(need["command"])[1:] for need in needs if need["reason"] == "breaker"]
        for command in commands:
            self.verb(*command, odds=0)
        return len(commands)

    def give_up_orphans(self) -> int:
        """What waits for a task whose file the person took away is given up, too; how many."""
        wrong = self.repo.octopoid("status", "--json").json()["invalid"]
        orphans = [Path(one["path"]).stem for one in wrong if "does not exist" in one["message"]]
        for task in orphans:
            self.books.away[task] = "cancel"
            self.verb("cancel", task, odds=0)
        return len(orphans)

    def do_look(self, chance: random.Random) -> None:
        found = self.some(chance)
        if found and chance.random() < 0.5:
            self.verb(chance.choice(LOOKS_AT), found[0])
        else:
            self.verb(*chance.choice(LOOKS))

    def do_cancel(self, chance: random.Random) -> None:
        found = self.some(chance)
        if found:
            self.books.away[found[0]] = "cancel"
            self.verb("cancel", found[0])

    def do_retry(self, chance: random.Random) -> None:
        found = self.some(chance)
        if found:
            self.verb("retry", found[0])

    def do_reopen(self, chance: random.Random) -> None:
        found = self.some(chance, State.DONE)
        if found:
            self.verb("reopen", found[0], "-m", "once more")

    def do_pause(self, chance: random.Random) -> None:
        found = self.some(chance)
        what = chance.choice([[], ["--agent", "implementer"], [found[0]] if found else []])
        self.verb("pause", *what)
        self.later.append((self.now() + chance.uniform(0.5, 5), "resume", lambda: self.verb("resume", *what, odds=0)))

    def do_clean(self, chance: random.Random) -> None:
        if not self._under_way("clean"):
            self.verb("clean", *chance.choice([[], ["--older-than", "1m"], ["--logs"], ["--dry-run"]]))

    def do_mend(self, _: random.Random) -> None:
        if not self._under_way("doctor"):
            self.verb("doctor", "--fix")

    def _under_way(self, verb: str) -> bool:
        """A person waits for one before they start the next; of five hundred worktrees git has much to say."""
        return any(one.argv[0] == verb for one in self.verbs)

    def do_undo(self, _: random.Random) -> None:
        """Takes back whatever the person did last, a cancelling or an arrival: both are on purpose."""
        if not self.undo:
            return

        def then(_: int, out: str) -> None:
            for task in self.books.known:
                if task in out:
                    self.books.away[task] = "undo"

        self.verb("undo", then=then)

    def do_remove(self, chance: random.Random) -> None:
        found = self.some(chance)
        if found and len(places(self.repo, found[0])) == 1:  # of two the person first looks which is which
            with suppress(OSError):
                self.layout.task_file(found[1], found[0]).unlink()
                self.books.away[found[0]] = "rm"

    def do_move(self, chance: random.Random) -> None:
        """`mv -n` from one folder to another."""
        move = chance.choices(list(STEERED), weights=list(STEERED.values()))[0]
        found = self.some(chance, move[0])
        if found:
            old, new = (self.layout.task_file(state, found[0]) for state in move)
            with suppress(OSError):
                if not new.exists():
                    old.rename(new)
                    if move[1] is State.CANCELLED:
                        self.books.away[found[0]] = "mv"

    def do_tidy(self, _: random.Random) -> None:
        """Of two files with one id the person puts the one away that is not the task."""
        seen = Counter(task for state in State for task in places_of(self.layout, state))
        for task in [task for task, count in seen.items() if count > 1]:
            found = places(self.repo, task)
            for state in found[1:]:
                if state in ACTIVE:
                    number = next(self.numbers)
                    with suppress(OSError):
                        shutil.copy2(self.layout.task_file(state, task), self.place / f"drawer/{task}.{number}.md")
                        self.layout.task_file(state, task).unlink()
        for state in ACTIVE:
            for path in self.layout.folder(state).glob("[!.]*"):
                if path.suffix != ".md" and path.name not in self.busy:
                    with suppress(OSError):
                        path.unlink()

    # --- editors ---

    def do_edit(self, chance: random.Random) -> None:
        """Open a task, and save it some time later the way this editor saves."""
        found = self.some(chance)
        if not found or found[0] in self.busy:
            return
        path = self.layout.task_file(found[1], found[0])
        editor, mark = chance.choice(EDITORS), f"<!-- edit {next(self.numbers)} -->"
        with suppress(OSError):
            text = path.read_text()
            self.busy.add(found[0])
            anew = chance.random() < 0.3
            due = self.now() + chance.choice([0, 0, 0.2, 1, 3])
            self.later.append((due, "edit", lambda: self._save(found[0], path, text, editor, mark, anew)))

    def _save(self, task: str, path: Path, text: str, editor: str, mark: str, anew: bool) -> None:
        """`anew`: also where the file is not there any more; otherwise the editor says so and the person gives up."""
        self.busy.discard(task)
        if editor != "sed" and not anew and not path.exists():
            return
        with suppress(OSError):
            getattr(self, f"_as_{editor}")(path, re.sub(r"^(# .*)$", rf"\1\n{mark}", text, count=1, flags=re.M), mark)
            self.books.edits.append((task, editor, mark))
            return

    def _as_vim(self, path: Path, text: str, _: str) -> None:
        """The old file becomes the backup, a new one takes its name."""
        backup = path.with_name(path.name + "~")
        with suppress(FileNotFoundError):
            path.rename(backup)
        try:
            with path.open("w") as file:
                file.write(text)
                os.fsync(file.fileno())
        except OSError:  # no room: what was there comes back
            with suppress(FileNotFoundError):
                backup.replace(path)
            raise
        backup.unlink(missing_ok=True)

    def _as_sed(self, path: Path, _: str, mark: str) -> None:
        argv = ["sed", "-i", "-e", f"0,/^# /s/^# .*/&\\n{mark}/", str(path)]
        if subprocess.run(argv, capture_output=True, check=False).returncode:
            raise FileNotFoundError(path)

    def _as_code(self, path: Path, text: str, _: str) -> None:
        """Truncated, then written in place. Where there is no room the person saves once more, when there is."""
        try:
            path.write_text(text)
        except OSError:
            self.later.append((self.now() + 0.5, "save again", lambda: self._save_again(path.stem, text)))
            raise

    def _save_again(self, task: str, text: str) -> None:
        """What the editor has still got, wherever the file is by now."""
        for state in places(self.repo, task)[:1]:
            path = self.layout.task_file(state, task)
            if not path.read_text():
                path.write_text(text)

    def do_break(self, chance: random.Random) -> None:
        """Half a thought in the front matter; the person comes back to it."""
        found = self.some(chance)
        if found and found[0] not in self.busy and self._replace(found[0], b"---\n", b"---\nlabels: [half\n"):
            self.busy.add(found[0])
            self.later.append((self.now() + chance.uniform(1, 6), "mend", lambda: self._mend(found[0])))

    def _mend(self, task: str) -> None:
        """Again, while it is just being moved; not where another file of that name stayed, and the broken one went."""
        if self._replace(task, b"---\nlabels: [half\n", b"---\n") is None and places(self.repo, task):
            self.later.append((self.now() + 0.3, "mend", lambda: self._mend(task)))
            return
        self.busy.discard(task)

    def _replace(self, task: str, old: bytes, new: bytes) -> bool | None:
        """Edit the file in place, wherever it is. False: it does not say `old`. None: it was not there just now."""
        for state in places(self.repo, task)[:1]:
            with suppress(OSError):
                path = self.layout.task_file(state, task)
                data = path.read_bytes()
                if old in data:
                    with path.open("r+b") as file:
                        file.write(data.replace(old, new, 1))
                        file.truncate()
                return old in data
        return None

    # --- what goes wrong ---

    def do_cron(self, _: random.Random) -> None:
        """Beside the daemon it only says who holds the lock; between two daemons it works."""
        self.verb("run", "--once", odds=0.3)

    def do_stop(self, _: random.Random) -> None:
        if self._calm():
            return
        self.stopped = self.now()
        self.verb("stop", odds=0)

    def _calm(self) -> bool:
        return CALM[0] <= self.part() <= CALM[1]

    def do_kill(self, chance: random.Random) -> None:
        kind = pick(chance, KILLED)
        if kind == "daemon" and self._calm():
            return
        if self._signal(chance, kind, signal.SIGKILL):
            self.books.kills[kind] += 1
            self.expected |= kind == "daemon"

    def do_freeze(self, chance: random.Random) -> None:
        kind = pick(chance, FROZEN)
        pid = self._signal(chance, kind, signal.SIGSTOP)
        if pid:
            self.books.frozen[kind] += 1

            def thaw() -> None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

            self.later.append((self.now() + chance.uniform(0.2, 4), "freeze", thaw))

    def _signal(self, chance: random.Random, kind: str, number: int) -> int:
        """Somebody of this kind gets it; 0: there was nobody."""
        found = [pid for pid, command in marked(self.place).items() if kind_of(command) == kind]
        if kind == "daemon":
            found = [self.daemon.pid] if self.daemon else []
        for pid in [chance.choice(sorted(found))] if found else []:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                return pid
        return 0

    def do_fault(self, chance: random.Random) -> None:
        """One at a time of each kind, and only one that commands may fail for."""
        kind = pick(chance, {name: kind.odds for name, kind in FAULTS.items()})
        there = {what for _, what, _ in self.later}
        if kind in there or ("agents.yaml" in kind and any("agents.yaml" in one for one in there)):
            return
        if kind in REFUSES and there & set(REFUSES):
            return
        end = FAULTS[kind].start(self.faults, chance)
        if end:
            self.books.faults[kind] += 1
            self.later.append((self.now() + chance.uniform(0.2, 1) * FAULTS[kind].longest, kind, end))

    def progress(self, now: float) -> str:
        counts = {state.name.lower(): len(places_of(self.layout, state)) for state in State}
        there = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        books = self.books
        rss = books.samples[-1].rss // 1024 if books.samples else 0
        return (
            f"{now / 60:.0f} min: {len(books.known)} came in; {there}; {books.kills.total()} kills, "
            f"{books.faults.total()} faults, {len(books.edits)} edits; daemon {rss} MB; {len(books.wrong)} wrong"
        )


def stack(verb: Verb) -> str:
    """Where in the kernel a command waits, and what it has open."""
    home = Path(f"/proc/{verb.process.pid}")
    with suppress(OSError):
        opened = sorted({str(one.readlink()) for one in (home / "fd").iterdir()})
        return f"{(home / 'wchan').read_text()}; {', '.join(opened)}"
    return "it is gone"


def kind_of(command: str) -> str:
    """Who runs this command line."""
    if "octopoid.runner" in command:
        return "runner"
    return "agent" if "scripted" in command else ""


MEGABYTES = 6_000_000
CHECK = """\
#!/bin/sh
# Says yes to a tree, and writes down to which. What is not written down was not said.
test ! -e WRONG && git diff --quiet HEAD || exit 1
git rev-parse 'HEAD^{tree}' >> "$1"
"""


def make(place: Path, seed: int, tasks: int, limits: Mapping[str, int] = {}) -> tuple[Repo, Plan]:
    """The week's repository in `place`: an empty queue, louder agents, checks that write down what they saw."""
    plan = decide(seed, tasks)
    louder = json.loads(json.dumps(plan.scripts).replace('{"spew": 300000}', json.dumps({"spew": MEGABYTES})))
    repo = prepare(place, plan._replace(files={}, scripts=louder), limits)
    (place / "tmp").mkdir()
    repo = repo._replace(env={**repo.env, "TMPDIR": str(place / "tmp")})
    check = place / "check.sh"
    check.write_text(CHECK)
    check.chmod(0o755)
    policy = json.loads(repo.layout.agents_yaml.read_text())
    policy["checks"] = [{"name": "right", "run": f"{check} {place}/trees"}]
    repo.layout.agents_yaml.write_text(json.dumps(policy, indent=1))
    repo.octopoid("config", "check")
    return repo, plan
