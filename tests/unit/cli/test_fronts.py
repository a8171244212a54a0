"""Weights as the command line takes them, and the front of a policy as people read it."""

import pytest

from rlaas_ray.cli import fronts
from rlaas_ray.errors import InvalidInput

ROWS = [
    {"weights": [1.0, 0.0], "mean": [4.0, -3.0], "ci95": [[3.5, 4.5], [-3.0, -3.0]], "on_front": True, "chosen": True},
    {
        "weights": [0.0, 1.0],
        "mean": [0.5, -4.0],
        "ci95": [[0.5, 0.5], [-5.0, -3.0]],
        "on_front": False,
        "chosen": False,
    },
]
FRONT = {
    "objectives": [
        {"name": "speed", "unit": "m/s", "direction": "max"},
        {"name": "time", "unit": "1", "direction": "max"},
    ],
    "preferences": ROWS,
    "summary": "1 of 2 weights",
    "hypervolume": 0.5,
    "expected_utility": 1.25,
}


def test_weights_by_name() -> None:
    assert fronts.weights("throughput=0.7, energy=3e-1") == {"throughput": 0.7, "energy": 0.3}


@pytest.mark.parametrize("wrong", ["energy", "=1", "energy=x", "energy=-1", "energy=1,energy=2", "energy=nan", ""])
def test_what_are_no_weights_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="weights"):
        fronts.weights(wrong)


def test_a_front_is_found_in_either_result_and_told_row_by_row(capsys) -> None:
    for result in (FRONT, {"evaluation": {"return_mean": 1.0, "front": FRONT}}):
        assert fronts.document_of(result) is FRONT
    assert fronts.document_of({"front": [[1.0, 2.0]], "evaluation": {}}) is None  # of a search
    fronts.table(FRONT)
    told = capsys.readouterr().out
    first, second = (line for line in told.splitlines() if line.startswith(("chosen", "beaten")))
    assert "4 +- 0.5" in first
    assert "-4 +- 1" in second
    assert "1 of 2 weights" in told
