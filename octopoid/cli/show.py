"""`octopoid show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import typer

from octopoid import details, lifecycle, steer, views
from octopoid.cli import common, overview, reading, render
from octopoid.layout import Layout
from octopoid.model import Item
from octopoid.states import ACTIVE, SATISFYING, State

cli = typer.Typer()


@cli.command(epilog=common.examples("octopoid show add-dark-mode", "octopoid show add-d --json"))
def show(word: common.Id, as_json: common.Json = False) -> None:
    """Show one task: its facts, its text, its documents, its entries and its verdicts."""
    layout = common.layout()
    task = lifecycle.resolve(layout, word)
    found = reading.observe(layout)
    item = reading.item(layout, found, task)
    waits = reading.waits(layout, found)._replace(over=reading.ended(layout, found))
    view = views.task(item, found.look, common.now(), steer.pauses(layout), waits, reading.base(layout))
    entries = tuple(details.entry(one, layout.entry(task, one.number)) for one in found.observer.entries(task))
    verdicts = tuple(details.verdict(one) for one in item.ledger.verdicts)
    body = item.task.body if item.task else reading.raw(item.path)
    if as_json:
        folder = layout.artifacts(task)
        documents = tuple(
            details.DocumentView(name, number, str(folder / name)) for name, number in item.ledger.artifacts.items()
        )
        facts = {"task": view, "body": body, "documents": documents, "entries": entries, "verdicts": verdicts}
        common.emit("show", **views.plain(facts))
        return
    _print(layout, item, view, body, entries, found.look.ids)
    for one in found.look.problems if item.problem else ():
        if one.path == item.path:
            common.out(f"{views.place(one)}{f'; {one.hint}' if one.hint else ''}")
    tables = (_documents(layout, item), _entries(entries), _verdicts(verdicts))
    render.show([table for table in tables if table.rows])
    common.next_step(_next(item, view))


def _print(
    layout: Layout,
    item: Item,
    view: views.TaskView,
    body: str,
    entries: tuple[details.EntryView, ...],
    ids: Mapping[str, State],
) -> None:
    common.out(common.clean_text(view.title))
    for name, value in _facts(layout, item, view, entries):
        if value:
            common.out(f"  {name:<12}  {common.one_line(value)}")
    for child in view.children:
        common.out(f"  {'subtask':<12}  {child}  {views.STATE_NAMES[ids[child]] if child in ids else 'not made yet'}")
    for one in item.task.criteria if item.task else ():
        command = f" :: {one.command}" if one.command else ""
        common.out(f"  {'criterion':<12}  {common.one_line(one.text + command)}")
    for question in item.ledger.questions if view.reason == "question" else ():
        common.out(f"  {'question':<12}  {common.one_line(question)}")
    if body:
        common.out()
        common.out(common.clean_text(body))
    common.out()


def _facts(
    layout: Layout, item: Item, view: views.TaskView, entries: tuple[details.EntryView, ...]
) -> Iterable[tuple[str, str]]:
    state = f"{view.state}, {view.reason}: {view.detail}" if view.reason else view.state
    yield "id", view.id
    yield "state", f"{state}, ready" if view.ready and not view.reason else state
    for run in overview.runs(layout, (item,), common.now()):
        yield "running", f"{overview.who(run)}: {overview.progress(run)}"
        yield "doing", overview.silence(run) or run.doing
        yield "sandbox", overview.exposure(run)
    yield "file", layout.short(item.path)
    yield "priority", view.priority or ""
    yield "role", view.role or ""
    yield "flow", (view.flow or "") if view.flow != "default" else ""
    yield "stage", (view.stage or "") if view.flow != "default" and item.state in ACTIVE else ""
    yield "project", view.project or ""
    yield "parent", view.parent or ""
    yield "base", view.base or ""
    yield "labels", ", ".join(view.labels)
    yield "depends on", ", ".join(view.depends_on)
    yield "waiting on", ", ".join(view.waiting_on)
    yield "attempts", f"{view.attempts} by {view.role}" if view.attempts else ""
    yield "rounds", f"{view.rounds} (refusals by gates)" if view.rounds else ""
    yield "candidate", view.candidate or ""
    yield "landed", view.landed_commit or ""
    yield "cost", render.usd(view.usd, any(one.priced for one in entries))
    yield "created", view.created
    yield "updated", view.updated


def _documents(layout: Layout, item: Item) -> render.Table:
    """The newest version of each, and the entry that wrote it."""
    columns = (render.Column("document", "cyan"), render.Column("entry"), render.Column("path", "dim", wraps=True))
    folder = layout.artifacts(item.id)
    rows = tuple(
        (name, f"{number:03d}", layout.short(folder / name)) for name, number in sorted(item.ledger.artifacts.items())
    )
    return render.Table("documents", columns, rows)


def _entries(entries: tuple[details.EntryView, ...]) -> render.Table:
    paid = any(one.usd for one in entries)
    columns = (
        render.Column("entry"),
        render.Column("kind"),
        render.Column("who", "cyan"),
        render.Column("started", "dim"),
        *((render.Column("cost"),) if paid else ()),
        render.Column("how it ended", wraps=True),
    )
    rows = tuple(
        (f"{one.number:03d}", _kind(one), _who(one), _when(one), *((_cost(one),) if paid else ()), _end(one))
        for one in entries
    )
    return render.Table("entries", columns, rows)


def _cost(one: details.EntryView) -> str:
    """Of an agent that is done; `-` where nobody knows."""
    return (render.usd(one.usd, bool(one.priced)) or "-") if one.agent and one.ended else ""


def _when(one: details.EntryView) -> str:
    """A person at a terminal needs the room for how it ended; a pipe gets all of it."""
    return one.started[:16].replace("T", " ") if common.terminal() else one.started


def _kind(one: details.EntryView) -> str:
    if one.kind == "gate" and one.gate:
        return one.gate
    return f"{one.kind} {one.attempt}" if one.attempt else one.kind


def _who(one: details.EntryView) -> str:
    """The agent, and what it works as where its name does not say that."""
    agent = one.agent or one.by
    if agent == _kind(one) and common.terminal():  # a gate that is answered by the agent of its name
        return ""
    return agent if one.role in (None, agent, "implementer") else f"{agent} ({one.role})"


def _end(one: details.EntryView) -> str:
    if one.ended is None:
        return one.text if one.kind not in ("attempt", "gate", "landing", "finish", "block") else one.detail or "open"
    word = one.verdict or one.reason or one.class_ or ""
    return ": ".join(part for part in (word, one.detail or one.text) if part) or "done"


def _verdicts(verdicts: tuple[details.VerdictView, ...]) -> render.Table:
    columns = (
        render.Column("gate"),
        render.Column("verdict"),
        render.Column("about", "dim"),
        render.Column("by", "cyan"),
        render.Column("feedback", wraps=True),
    )
    rows = tuple((one.gate, one.verdict, (one.tree or one.candidate)[:12], one.by, one.feedback) for one in verdicts)
    return render.Table("verdicts", columns, rows)


def _next(item: Item, view: views.TaskView) -> str:
    if view.reason == "question":
        return f"octopoid answer {view.id} -m TEXT"
    if item.ledger.awaiting and view.reason == "human":
        return f"octopoid approve {view.id}, or octopoid reject {view.id} -m TEXT"
    if item.state in SATISFYING and not item.ledger.landed:
        return f"octopoid thread {view.id}"
    if item.state in SATISFYING or (view.candidate and not view.children):
        return f"octopoid diff {view.id}"
    if view.reason == "running":
        return f"octopoid log -f {view.id}"
    return f"octopoid edit {view.id}" if view.reason == "invalid" else f"octopoid why {view.id}"
