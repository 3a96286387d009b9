"""Several programs in one queue on one repository: some do the work, the last one judges it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agentcases import RIGHT, left_behind
from agentdrivers import Driver, installed
from harness import drop, git, landed, make_repo, write_config

from octopoid.adapters import ADAPTERS


def show(drivers: Sequence[Driver], place: Path) -> tuple[str, ...]:
    """Run it in `place`, which is there and empty; the lines to show. AssertionError where not all is as it should be.

    Every worker has one place, and there are twice as many tasks as workers.
    """
    *workers, judge = drivers
    names = [f"task{number}" for number in range(2 * len(workers))]
    repo = make_repo(place)
    folder = place / "bin"
    folder.mkdir()
    env = {"PATH": f"{folder}{os.pathsep}{repo.env['PATH']}"}
    agents = {}
    with ExitStack() as stack:
        for driver in drivers:
            server = stack.enter_context(driver.server({}))
            for name in names:
                verdict = driver.judge({"outcome": "accept", "summary": "Fine."})
                done = driver.done("Done.")._replace(usage=(30_000, 1_500))
                server.scripts[f"{name}-work"] = [*driver.work(f"{name}.txt", driver.adapter), done]
                server.scripts[f"{name}-review"] = [one._replace(usage=(20_000, 500)) for one in verdict]
            wiring = driver.wire(server, Path(repo.env["HOME"]))
            role = "gatekeeper" if driver is judge else "implementer"
            agents[f"{driver.adapter}-{role}"] = {"role": role, "adapter": driver.adapter, **wiring.keys}
            env |= {driver.key: RIGHT, **wiring.env}
            if driver.program:
                (folder / installed(driver.program).name).symlink_to(installed(driver.program))
        policy = {"version": 1, "base": "main", "gates": ["gatekeeper"], "agents": agents}
        write_config(repo, json.dumps(policy, indent=1))
        for role, marker in (("implementer", "work"), ("gatekeeper", "review")):
            builtin = (Path(__file__).parent.parent / f"octopoid/roles/{role}.md").read_text(encoding="utf-8")
            repo.layout.roles.mkdir(exist_ok=True)
            mine = f"{builtin}\n[[{{{{ task.id }}}}-{marker}]]\n"
            (repo.layout.roles / f"{role}.md").write_text(mine, encoding="utf-8")
        for name in names:
            drop(repo, name, f"# Write {name}.txt\n\nAs scripted.\n")
        repo.octopoid("run", "--until-empty", env=env)
        cost = repo.octopoid("cost", "--by", "role", env=env).out
    assert sorted(landed(repo)) == sorted(names)
    authors = {name: git(repo, "show", f"main:{name}.txt") for name in names}
    assert set(authors.values()) == {one.adapter for one in workers}, f"each of them did something: {authors}"
    judged = {one["by"] for name in names for one in repo.octopoid("show", name, "--json").json()["verdicts"]}
    assert judged == {f"{judge.adapter}-gatekeeper"}
    assert not left_behind(repo), left_behind(repo)
    titles = {one.adapter: ADAPTERS[one.adapter].facts.title for one in drivers}
    return (
        *(f"{name}: by {who} ({titles[who]}), judged by {judge.adapter}, landed" for name, who in authors.items()),
        "octopoid cost --by role:",
        *(f"  {line}" for line in cost.splitlines()),
        "no process and no lock is left",
    )
