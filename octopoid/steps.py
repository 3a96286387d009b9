"""The steps of a supervised run, what its prompt says, what its environment holds (DESIGN §5)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from octopoid import attempts, configsandbox, documents, durable, framing, inside, process, prompts, standing
from octopoid.adapters import ADAPTERS, Request
from octopoid.errors import LostRace
from octopoid.fold import session_key
from octopoid.gates import has_checks, is_required
from octopoid.judging import PRE_CHECK
from octopoid.layout import Layout
from octopoid.model import Item, Opening, Task
from octopoid.results import bounded
from octopoid.settings import Agent, Check, Config, Sandbox

PRE_CHECK_TIMEOUT = 300.0
MAX_DOCUMENTS = 96 << 10
"""Characters of all documents of a task in one prompt."""

ENVIRONMENT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TZ", "TMPDIR"),
        *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    }
)
"""What every step gets of the scheduler's environment, with `LC_*`; the rest only when `env:` names it (DESIGN §5)."""


_NO_LOGIN = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",  # said and empty: git then asks neither core.askPass nor SSH_ASKPASS
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_SSH_COMMAND": "ssh -F none -o BatchMode=yes -o IdentityAgent=none -o PubkeyAuthentication=no"
    " -o HostbasedAuthentication=no -o GSSAPIAuthentication=no",
}


class Site(NamedTuple):
    """Where and with what attempts are started. `env`: the scheduler's own environment."""

    layout: Layout
    config: Config
    env: Mapping[str, str]

    def worktree(self, task: str) -> Path:
        """The worktree of a task."""
        return worktrees_folder(self.layout, self.config) / task


def worktrees_folder(layout: Layout, config: Config) -> Path:
    """Where this root's worktrees are: `.octopoid/worktrees`, or what `worktrees: {dir: …}` says."""
    wanted = config.worktrees.dir
    return (layout.root / Path(wanted).expanduser()) if wanted else layout.home / "worktrees"


def task_in(item: Item) -> Task:
    """The task, valid. Raises LostRace when somebody edited that away."""
    if item.task is None:
        raise LostRace(f"{item.id} is not valid any more")
    return item.task


def write_prompt(site: Site, item: Item, opening: Opening, entry: Path) -> Path:
    """Write `prompt.md` into the entry. Raises Invalid where the role's template fails."""
    role, config = site.config.roles[opening.role], site.config
    flow = config.flows[task_in(item).flow]
    folder = entry / "artifacts"
    text = prompts.render(
        role,
        prompts.Prompt(
            task=task_in(item),
            stage=opening.stage or opening.gate,
            attempt=opening.attempt,
            base=opening.base,
            base_sha=opening.base_sha,
            result_file=str(entry / "result.json"),
            candidate=opening.candidate,
            artifacts=str(folder),
            feedback=item.ledger.feedback,
            checks=config.checks if has_checks(flow) else (),
            notes=(item.ledger.summary,) if item.ledger.summary else (),
            produces=opening.produces,
            artifact=str(folder / opening.artifact) if opening.artifact else "",
            documents=_documents(folder, tuple(item.ledger.artifacts)),
            roles=framing.playable(config) if opening.produces == "tasks" else framing.helpers(opening.role, config),
            flows=framing.usable(config),
            children=item.ledger.children,
            advisory=bool(opening.gate) and not is_required(opening.gate, item, flow),
            interrupted=bool(opening.session)
            and session_key(opening.agent, opening.role, opening.adapter) in item.ledger.cuts,
        ),
    )
    path = entry / "prompt.md"
    durable.write(path, text.encode("utf-8"), sync=False)
    return path


def _documents(folder: Path, names: tuple[str, ...]) -> tuple[prompts.Document, ...]:
    """All of them, each with its share of the room: the prompt says where the whole of it is."""
    share = MAX_DOCUMENTS // max(1, len(names))
    texts = ((name, documents.read(folder / name).decode("utf-8", "replace")) for name in names)
    return tuple(prompts.Document(name, str(folder / name), bounded(text, share)) for name, text in texts)


def environment(site: Site, item: Item, opening: Opening, entry: Path, named: tuple[str, ...]) -> dict[str, str]:
    """What a run is given: an allow-list, the variables `named` by its agent, and where it is (DESIGN §5)."""
    env = {
        name: value
        for name, value in site.env.items()
        if name in ENVIRONMENT or name in named or name.startswith("LC_")
    }
    env.update(
        OCTOPOID_ROOT=str(site.layout.root),
        OCTOPOID_WAKE=str(site.layout.wake),
        OCTOPOID_TASK_ID=item.id,
        OCTOPOID_TASK_FILE=str(entry / "task.md"),
        OCTOPOID_PROMPT_FILE=str(entry / "prompt.md"),
        OCTOPOID_RESULT_FILE=str(entry / "result.json"),
        OCTOPOID_ARTIFACTS=str(entry / "artifacts"),
        OCTOPOID_ROLE=opening.role,
        OCTOPOID_STAGE=opening.stage or opening.gate,
        OCTOPOID_ATTEMPT=str(opening.attempt),
        OCTOPOID_ATTEMPT_DIR=str(entry),
        OCTOPOID_BASE_SHA=opening.base_sha or opening.onto,
        OCTOPOID_SLOT=str(max(0, opening.slot)),
        # A worktree that lost its .git file lies inside the user's checkout: their git must not find that instead.
        GIT_CEILING_DIRECTORIES=f"{worktrees_folder(site.layout, site.config)}:{site.layout.attempts}",
    )
    return env


def agent_step(site: Site, agent: Agent, opening: Opening, entry: Path, worktree: Path, prompt: Path) -> dict[str, Any]:
    """The agent's own program. Only a role that produces commits may write; the shorter time limit counts."""
    adapter, role = ADAPTERS[agent.adapter], site.config.roles[opening.role]
    (entry / "artifacts").mkdir(mode=0o700, exist_ok=True)
    writes = opening.produces == "commits" and role.writes
    role = role._replace(writes=writes, produces=opening.produces, artifact=opening.artifact or role.artifact)
    request = Request(agent, role, entry, prompt, site.layout.root, opening.session, site.config.prices)
    launch = adapter.launch(request)
    limits = [one for one in (agent.timeout, role.timeout) if one]
    made = step("agent", list(launch.argv), str(worktree), min(limits, default=0.0))
    own = {} if "TMPDIR" in agent.env else {"TMPDIR": str(attempts.scratch(entry))}
    env = {**own, **dict(launch.env)}
    found = {**made, "stdin": launch.stdin or str(prompt), "silence": agent.silence, "env": env}
    box = configsandbox.stricter(agent.sandbox, site.config.roles[opening.role].sandbox)
    return shut_in(site, found, box, entry, agent=agent, keeps=writes)


def prepare(site: Site, worktree: Path, base_sha: str, reuse: Path | None, entry: Path) -> dict[str, Any]:
    """Make the worktree and prove it (`workspace.prepare`)."""
    return built_in(
        "worktree",
        "prepare",
        root=str(site.layout.root),
        worktree=str(worktree),
        base_sha=base_sha,
        reuse=str(reuse) if reuse else "",
        facts=str(entry / "start.json"),
        include=(site.layout.root / ".worktreeinclude").exists(),
        stamp=str(_stamp(site, worktree)),
        hooks=house(site.config).mode == "off",
    )


def check_out(site: Site, worktree: Path, commit: str) -> dict[str, Any]:
    """Put exactly this commit there."""
    return built_in("checkout", "check_out", root=str(site.layout.root), worktree=str(worktree), commit=commit)


def restore(site: Site, worktree: Path, commit: str, entry: Path) -> dict[str, Any]:
    """Throw away what was changed there, and report it."""
    facts = str(entry / "facts.json")
    return built_in(
        "restore", "restore", root=str(site.layout.root), worktree=str(worktree), commit=commit, facts=facts
    )


def house(config: Config) -> Sandbox:
    """For what is no agent's: as the policy says, and as strict as it says of any agent, whose code this runs."""
    box = config.sandbox
    for agent in config.agents.values():
        box = configsandbox.stricter(box, Sandbox(agent.sandbox.mode))
    return box


def shut_in(
    site: Site, made: dict[str, Any], box: Sandbox, entry: Path, *, agent: Agent | None = None, keeps: bool = False
) -> dict[str, Any]:
    """The step as its sandbox wants it, without the logins that the user has for git unless `agent` may have them.

    `keeps`: what it commits is the work, and the next step goes on from there.
    """
    logins = agent is not None and agent.git_credentials
    made = made if logins else {**made, "env": {**no_login(site.env), **(made.get("env") or {})}}
    socket = site.env.get("SSH_AUTH_SOCK", "") if logins else ""
    if socket:
        made = {**made, "env": {"SSH_AUTH_SOCK": socket, **(made.get("env") or {})}}
    if box == Sandbox(write=box.write, read=box.read, hide=box.hide):
        return made  # off, and without a limit
    facts = ADAPTERS[agent.adapter].facts if agent is not None and agent.adapter in ADAPTERS else None
    state = facts.state if facts else ()
    said = {
        "box": {**box._asdict(), "git_credentials": logins, "read": [*box.read, *([socket] if socket else [])]},
        "root": str(site.layout.root),
        "home": site.env.get("HOME", "/"),
        "worktree": made["cwd"],
        "worktrees": str(worktrees_folder(site.layout, site.config)),
        "entry": str(entry),
        "state": state,
        "scratch": facts.scratch if facts else (),
        "copies": [path for path in (facts.logins if facts else ()) if path not in state],
        "keeps": keeps,
    }
    return {**made, "sandbox": said}


def no_login(env: Mapping[str, str]) -> dict[str, str]:
    """Variables with which git and ssh use none of the user's logins. `env`: what may say more configuration.

    An empty `credential.helper` takes back all before it, also those of one host (git 2.26 and later).
    """
    at = env.get("GIT_CONFIG_COUNT", "")
    at = at if at.isdecimal() else "0"
    helper = {f"GIT_CONFIG_KEY_{at}": "credential.helper", f"GIT_CONFIG_VALUE_{at}": ""}
    return {**_NO_LOGIN, **helper, "GIT_CONFIG_COUNT": str(int(at) + 1)}


def commit_inside(site: Site, arguments: dict[str, Any], box: Sandbox, entry: Path) -> dict[str, Any]:
    """`workspace.collect` as a program of its own: the user's hooks run, and with husky an agent can write those."""
    own = {**arguments, "facts": str(entry / "commit.json"), "secrets": ()}
    program = process.BOOT + inside.PROGRAM
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", program, json.dumps(own), process.PACKAGE]
    return shut_in(site, step("commit", argv, arguments["worktree"]), box, entry, keeps=True)


def sandboxed(steps: list[dict[str, Any]], entry: Path) -> list[dict[str, Any]]:
    """The same with the step before them that finds out what shuts in here, where one of them wants that."""
    modes = [step["sandbox"]["box"]["mode"] for step in steps if step.get("sandbox")]
    mode = max((mode for mode in modes if mode != "off"), key=configsandbox.MODES.index, default="")
    if not mode:
        return steps
    work = [step.get("sandbox") for step in steps if step["name"] == "agent" or step["name"].startswith("check:")]
    shut = all(one and one["box"]["mode"] != "off" for one in work)
    made = built_in("sandbox", "", mode=mode, entry=str(entry), work=shut)
    return [{**made, "call": "octopoid.sandboxing:probe"}, *steps]


def bring_in(site: Site, worktree: Path, name: str, entry: Path, *, must: bool) -> dict[str, Any]:
    """Take over what was committed in a sandbox. `must`: it is the work of this very run."""
    made = built_in(name, "", root=str(site.layout.root), worktree=str(worktree), entry=str(entry), must=must)
    return {**made, "call": "octopoid.sandboxing:bring_in", "always": must}


def pre_check(site: Site, task: str, agent: Agent, worktree: Path, entry: Path, *, keeps: bool) -> list[dict[str, Any]]:
    """The cheap look whether there is anything to do: that of the agent, and that of the schedule the task is from."""
    schedule = standing.made_by(site.config.schedule, task)
    commands = [agent.pre_check, schedule.pre_check if schedule else ()]
    made = [step(PRE_CHECK, words(one), str(worktree), PRE_CHECK_TIMEOUT) for one in commands if one]
    return [shut_in(site, one, house(site.config), entry, keeps=keeps) for one in made]


def place_document(site: Site, worktree: Path, at: str, entry: Path, artifact: str, path: str) -> list[dict[str, Any]]:
    """The flow says that this document belongs to the work: nothing else that its writer changed does."""
    source = str(entry / "artifacts" / artifact)
    place = built_in("document", "place", root=str(site.layout.root), worktree=str(worktree), source=source, path=path)
    return [restore(site, worktree, at, entry), place]


def check_steps(site: Site, wanted: tuple[Check, ...], worktree: Path, entry: Path) -> list[dict[str, Any]]:
    """A step for each of the commands that judge the work."""
    made = [step(f"check:{check.name}", words(check.run), str(worktree), check.timeout) for check in wanted]
    return [shut_in(site, one, house(site.config), entry) for one in made]


def set_up(
    site: Site, worktree: Path, entry: Path, agent: Agent | None = None, *, keeps: bool = False
) -> list[dict[str, Any]]:
    """The user's setup command, in a worktree that is new or was reused: `prepare` removes the stamp there."""
    command = site.config.worktrees.setup
    if not command:
        return []
    stamp = _stamp(site, worktree)
    stamp.parent.mkdir(mode=0o700, exist_ok=True)
    made = step("setup", words(command), str(worktree), site.config.worktrees.setup_timeout)
    made = {**made, "unless": str(stamp), "stamp": str(stamp)}
    logins = site.config.worktrees.git_credentials or (agent is not None and agent.git_credentials)
    who = Agent("setup", "", "", git_credentials=logins)
    return [shut_in(site, made, house(site.config), entry, agent=who, keeps=keeps)]


def _stamp(site: Site, worktree: Path) -> Path:
    """The file that says that the setup command ran in this worktree."""
    return site.layout.run / "setup" / worktree.name


def words(command: str | tuple[str, ...]) -> list[str]:
    """A string is run by `sh -c` exactly as the user wrote it."""
    return ["sh", "-c", command] if isinstance(command, str) else list(command)


def built_in(name: str, function: str, **arguments: str | bool | tuple[str, ...]) -> dict[str, Any]:
    """A step that is a function of `workspace`, in a fork of the supervisor."""
    return {**step(name, None, "/"), "call": f"octopoid.workspace:{function}", "args": arguments}


def step(name: str, argv: list[str] | None, cwd: str, timeout: float = 0.0) -> dict[str, Any]:
    """One step as the supervisor reads it. `timeout`: seconds, 0 = none."""
    return {
        "name": name,
        "argv": argv,
        "call": None,
        "args": {},
        "cwd": cwd,
        "stdin": None,
        "timeout": timeout,
        "silence": 0.0,
        "always": False,
    }
