"""The planted bugs of docs/reliability.md can be planted, and what is to catch them is there: see `scripts/plants`."""

from __future__ import annotations

import pytest
from plants import PLANTS, PROJECT, Plant, planted


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.name for plant in PLANTS])
def test_it_can_be_planted_and_is_listed(plant: Plant) -> None:
    for module, text in planted(plant).items():
        compile(text, module, "exec")
    file, _, name = plant.test.partition("[")[0].partition("::")
    assert f"def {name}(" in (PROJECT / "tests" / file).read_text(encoding="utf-8")
    page = (PROJECT / "docs/reliability.md").read_text(encoding="utf-8")
    assert f"| {plant.name} |" in page and plant.test in page


def test_a_bug_of_each_class_is_planted() -> None:
    classes = {"lost rename", "missing fsync order", "unreleased claim", "double landing", "leaked env"}
    assert {plant.name for plant in PLANTS} >= classes
