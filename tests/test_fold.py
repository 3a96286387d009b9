"""`fold` as a table of entries: every counter, backoff, candidate and verdict (DESIGN §2, §5)."""

from __future__ import annotations

import pytest

from octopoid.fold import backoff, candidate_verdict, checks_passed_once, checks_verdict, fold, spending
from octopoid.model import Entry, Ledger, Opening, Outcome, Usage


class Evidence:
    """Builds entries with the numbers in order; times are 100, 200, …"""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(
        self, opening: Opening, outcome: Outcome | None = None, *, started: bool = True, moved: str = ""
    ) -> Evidence:
        number = len(self.entries) + 1
        at = 100.0 * number
        outcome = outcome._replace(ended=at + 50) if outcome else None
        marks = frozenset({"claimed"} if opening.kind == "attempt" else ()) | frozenset({moved} if moved else ())
        self.entries.append(Entry(number, opening._replace(at=at), started, outcome is not None, outcome, marks))
        return self

    def attempt(self, class_: str = "ok", **more: object) -> Evidence:
        moved = str(more.pop("moved", ""))
        outcome = Outcome("attempt", class_, False, "", "", 0.0)._replace(**more)
        return self.add(Opening("attempt", 0, role="implementer", agent="impl", attempt=1), outcome, moved=moved)

    def failure(self) -> Evidence:
        return self.attempt(
            "task",
            charged=True,
            reason="failed",
            detail="tests broke",
            verb="retry",
            moved="incoming",
            leaves="claimed",
            enters="incoming",
        )

    def success(self, candidate: str = "c1") -> Evidence:
        return self.attempt(
            candidate=candidate,
            start_sha="s",
            verb="submit",
            leaves="claimed",
            enters="provisional",
            moved="provisional",
        )

    def checks(self, verdict: str, tree: str = "t1", candidate: str = "c1", key: str = "k") -> Evidence:
        opening = Opening("gate", 0, gate="checks", candidate=candidate, tree=tree, key=key)
        return self.add(opening, Outcome("gate", "ok", False, "", "", 0.0, verdict=verdict, candidate=candidate))

    def refused(self, gate: str = "gatekeeper", candidate: str = "c1") -> Evidence:
        opening = Opening("gate", 0, gate=gate, role=gate, agent="rev", candidate=candidate)
        outcome = Outcome(
            "gate",
            "task",
            False,
            "rejected",
            "no tests",
            0.0,
            verdict="reject",
            feedback="add tests",
            verb="reject",
            leaves="provisional",
            enters="incoming",
        )
        return self.add(opening, outcome, moved="incoming")

    def person(self, kind: str, text: str = "", to: str = "") -> Evidence:
        return self.add(Opening(kind, 0, by="person", text=text, to=to, candidate="c1"), started=False)

    def ledger(self) -> Ledger:
        return fold(self.entries)


def test_nothing_gives_an_empty_ledger() -> None:
    assert fold([]) == Ledger()


def test_charged_failures_count_per_role_and_back_off() -> None:
    ledger = Evidence().failure().failure().ledger()
    assert ledger.charged == {"implementer": 2}
    assert ledger.tries == {"implementer": 2}
    assert ledger.retry_at == 250.0 + 20.0
    assert ledger.expected == "incoming"
    assert [one.text for one in ledger.feedback] == ["tests broke", "tests broke"]


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (1, 10), (2, 20), (3, 40), (6, 300), (60, 300)])
def test_backoff_doubles_from_ten_seconds_to_five_minutes(failures: int, seconds: float) -> None:
    assert backoff(failures) == seconds


@pytest.mark.parametrize(
    ("class_", "reason"), [("environment", "failed"), ("ours", "failed"), ("", "stopped"), ("task", "question")]
)
def test_what_is_not_the_tasks_fault_is_charged_to_nobody(class_: str, reason: str) -> None:
    ledger = Evidence().attempt(class_, reason=reason, breaker="agent:impl").ledger()
    assert ledger.charged == {}
    assert ledger.rounds == 0


@pytest.mark.parametrize("kind", ["answer", "release", "reopen", "move", "reject"])
def test_a_persons_word_gives_a_new_budget(kind: str) -> None:
    evidence = Evidence().failure().failure().success().refused()
    assert evidence.ledger().rounds == 1
    ledger = evidence.person(kind, text="go on", to="incoming").ledger()
    assert (ledger.charged, ledger.rounds, ledger.deaths, ledger.retry_at) == ({}, 0, 0, 0.0)
    assert ledger.tries["implementer"] == 3, "tries are never reset"


def test_a_runner_that_dies_is_counted_in_a_row_only() -> None:
    evidence = Evidence().attempt("ours").attempt("ours").attempt("ours")
    assert evidence.ledger().deaths == 3
    assert evidence.success().ledger().deaths == 0


def test_an_entry_that_never_started_counts_towards_nothing() -> None:
    evidence = Evidence()
    evidence.add(
        Opening("attempt", 0, role="implementer"), Outcome("attempt", "task", True, "failed", "", 0.0), started=False
    )
    ledger = evidence.ledger()
    assert ledger.tries == {} and ledger.charged == {} and ledger.retry_at == 0.0


def test_a_verdict_of_checks_is_about_a_tree_and_its_commands() -> None:
    ledger = Evidence().success().checks("accept").ledger()
    yes = checks_verdict(ledger, "t1", "k")
    assert yes is not None and yes.yes
    assert checks_verdict(ledger, "t2", "k") is None, "another tree"
    assert checks_verdict(ledger, "t1", "other commands") is None
    assert checks_passed_once(ledger, "k")
    assert not checks_passed_once(ledger._replace(candidate="c2"), "k"), "another candidate"


def test_a_verdict_of_a_role_is_about_one_candidate() -> None:
    evidence = Evidence().success("c1").refused("gatekeeper", "c1")
    assert candidate_verdict(evidence.ledger(), "gatekeeper") is not None
    assert candidate_verdict(evidence.success("c2").ledger(), "gatekeeper") is None


def test_refusals_are_rounds_and_go_along_as_feedback() -> None:
    ledger = Evidence().success().refused().success("c2").refused("checks", "c2").ledger()
    assert ledger.rounds == 2
    assert ledger.refused == {"c1", "c2"}
    assert [one.source for one in ledger.feedback] == ["gatekeeper", "checks"]


def test_a_no_on_a_tree_that_will_not_land_is_no_round() -> None:
    assert Evidence().success().checks("reject").ledger().rounds == 0


def test_an_open_entry_is_known_until_it_is_closed() -> None:
    opening = Opening("attempt", 0, role="implementer")
    ledger = Evidence().add(opening).ledger()
    assert ledger.open is not None and ledger.open.number == 1
    assert ledger.expected == "claimed"


def test_a_verb_that_lacks_its_marker_is_known() -> None:
    evidence = Evidence().attempt(verb="submit", leaves="claimed", enters="provisional")
    assert evidence.ledger().unmoved is not None
    assert Evidence().success().ledger().unmoved is None


def test_reopening_forgets_the_candidate_that_landed() -> None:
    evidence = Evidence().success()
    landing = Outcome("landing", "ok", False, "", "", 0.0, verb="land", leaves="provisional", enters="done")
    evidence.add(Opening("landing", 0, result_sha="r1", candidate="c1"), landing, started=False, moved="done")
    assert evidence.ledger().landed == "r1"
    again = evidence.person("reopen", "not like this", to="incoming").ledger()
    assert (again.landed, again.candidate) == ("", "")
    assert again.feedback[-1].text == "not like this"


def test_a_move_by_hand_says_where_the_task_is() -> None:
    assert Evidence().success().person("move", to="blocked").ledger().expected == "blocked"
    assert Evidence().success().person("move", to="blocked").ledger().reason == "parked"


def test_unknown_cost_stays_unknown_and_known_cost_adds_up() -> None:
    assert Evidence().success().ledger().usd is None
    evidence = Evidence().attempt(usage=Usage(usd=0.5)).attempt().attempt(usage=Usage(usd=0.25))
    assert evidence.ledger().usd == 0.75
    assert spending(evidence.entries, 0.0) == {"implementer": (0.75, {"": 1})}
    assert spending(evidence.entries, 200.0) == {"implementer": (0.25, {"": 1})}, "only what ended since then"


def test_an_environment_failure_without_a_breaker_backs_off_and_ends() -> None:
    evidence = Evidence()
    for _ in range(5):
        evidence.attempt("environment", reason="failed", detail="no space")
    ledger = evidence.ledger()
    assert ledger.deaths == 5 and ledger.charged == {}
    assert ledger.retry_at == 550.0 + 30.0
