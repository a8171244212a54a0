"""A choice on a result document: by name, in natural units, between parties; what is refused, with the name that was meant."""

import numpy as np
import pytest

from rlaas_ray.errors import Conflict, InvalidInput
from rlaas_ray.optimize import choosing
from rlaas_ray.specs import document
from rlaas_ray.specs.choose import ChooseSpec

FOUND = {
    "objectives": [
        {"name": "energy", "unit": "W", "direction": "min"},
        {"name": "throughput", "unit": "Mbit/s", "direction": "max"},
        {"name": "latency", "unit": "ms", "direction": "min"},
    ],
    "front": [[500.0, 10, 40], [620, 18, 31], [700, 25, 30], [900, 30, 22], [1200, 31, 20]],
    "weights": {"energy": 0.6, "throughput": 0.3, "latency": 0.1},
}


def asked(**fields):
    return document.parse(ChooseSpec, fields)


def answered(found=FOUND, frame=None, **fields):
    return choosing.answer(found, asked(**fields), frame=frame, rng=np.random.default_rng(0))


def test_without_a_word_it_is_topsis_with_the_weights_of_the_run() -> None:
    made = answered()
    assert (made["method"], made["weights"]) == ("topsis", pytest.approx(FOUND["weights"]))
    assert made["chosen"]["objectives"] == dict(
        zip(made["weights"], FOUND["front"][made["chosen"]["index"]], strict=True)
    )
    assert made["reason"].startswith(f"Point {made['chosen']['index']} of 5 non-dominated by topsis")
    assert "sensitivity" not in made


def test_targets_make_it_achievement_and_an_objective_without_one_asks_for_nothing() -> None:
    made = answered(targets={"throughput": 24.0})
    assert made["method"] == "achievement"
    assert made["chosen"]["objectives"]["throughput"] >= 24
    assert "meets every target" in made["reason"]


def test_weights_leave_out_what_they_do_not_name() -> None:
    assert answered(method="topsis", weights={"latency": 2.0})["chosen"]["index"] == 4
    assert answered(method="minimax", weights={"energy": 1.0})["chosen"]["index"] == 0


def test_the_knee_has_no_weights() -> None:
    assert answered(method="knee")["weights"] is None


def test_sensitivity_names_objectives_and_points() -> None:
    found = answered(sensitivity=True)["sensitivity"]
    assert set(found["intervals"]) == {"energy", "throughput", "latency"}
    for one in found["intervals"].values():
        assert 0 <= one["low"] <= one["weight"] <= one["high"] <= 1
    assert found["flip"]["objective"] in found["intervals"]
    assert found["flip"]["objective"] in found["reason"]
    assert sum(one["share"] for one in found["shares"]) == pytest.approx(1)


def test_dominated_points_are_flagged_and_neither_chosen_nor_scored() -> None:
    found = {**FOUND, "front": [*FOUND["front"], [1300.0, 9, 50]]}
    made = answered(found)
    assert made["dominated"] == [5]
    assert made["scores"][5] is None
    assert made["chosen"] == answered()["chosen"]


def test_the_frame_of_an_earlier_answer_keeps_its_scores_when_points_are_added() -> None:
    first = answered(method="topsis")
    grown = {**FOUND, "front": [*FOUND["front"], [3000.0, 60, 10]]}
    assert answered(grown, method="topsis")["scores"][:5] != pytest.approx(first["scores"])
    assert answered(grown, method="topsis", frame=first["frame"])["scores"][:5] == pytest.approx(first["scores"])


PARTIES = [
    {"name": "operator", "weights": {"energy": 1}},
    {"name": "tenant", "weights": {"throughput": 1, "latency": 1}, "share": 2},
]


def test_parties_get_a_point_between_their_own() -> None:
    made = answered(parties=PARTIES)
    assert (made["rule"], made["used"]) == ("nash", "nash")
    own = [party["would_take"] for party in made["parties"]]
    assert own[0] == 0
    assert own[1] in {3, 4}
    assert 0 < made["chosen"]["index"] < 4
    assert all(party["regret"] == pytest.approx(1 - party["utility"]) for party in made["parties"])
    assert set(made["by_rule"]) == {"nash", "weighted", "maximin", "topsis", "veto"}


def test_limits_in_natural_units_hold_whatever_the_rule() -> None:
    limited = [PARTIES[0], {**PARTIES[1], "limits": {"latency": 30.0, "throughput": 25.0}}]
    for rule in ("nash", "weighted", "maximin", "topsis", "veto"):
        made = answered(parties=limited, rule=rule)
        assert made["chosen"]["index"] in {2, 3, 4}


def test_demands_that_cannot_be_met_together_give_no_point_but_the_least_to_relax() -> None:
    hard = [{**PARTIES[0], "limits": {"energy": 850.0}}, {**PARTIES[1], "limits": {"throughput": 30.0}}]
    made = answered(parties=hard)
    assert made["chosen"] is None
    assert made["relax"] == {"limit of operator on energy": {"given": 850.0, "needed": 900.0}}
    assert made["relaxed_index"] == 3
    assert "from 850 W to 900 W: then point 3 does" in made["reason"]
    assert made["parties"][0]["utility"] is None


def test_a_party_may_have_targets() -> None:
    made = answered(parties=[{"name": "a", "targets": {"energy": 650.0, "throughput": 17.0}}])
    assert made["chosen"]["index"] == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": {"enegry": 1.0}}, "Did you mean 'energy'"),
        ({"targets": {"speed": 1.0}}, "energy, throughput, latency"),
        ({"parties": [{"name": "a", "weights": {"latancy": 1}}]}, "Did you mean 'latency'"),
        ({"parties": [{"name": "a", "weights": {"latency": 0}}]}, "positive sum"),
        (
            {"parties": [{"name": "a", "weights": {"latency": 1}, "limits": {"power": 3}}]},
            "energy, throughput, latency",
        ),
        ({"weights": {"energy": -1.0}}, "numbers >= 0"),
        ({"method": "knee", "sensitivity": True}, "ask without sensitivity"),
        ({"method": "topsis", "targets": {"energy": 1.0}}, "Targets belong to method achievement"),
    ],
)
def test_names_and_numbers_that_do_not_fit_are_refused_with_a_cure(fields, words) -> None:
    with pytest.raises(InvalidInput) as caught:
        answered(**fields)
    assert words in f"{caught.value.detail} {caught.value.cure}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "topsi"}, "'topsis'"),
        ({"parties": [{"name": "a"}]}, "weights or targets"),
        ({"parties": PARTIES, "method": "knee"}, "or one method"),
        ({"rule": "nash"}, "parties beside a rule"),
        ({"parties": [PARTIES[0], PARTIES[0]]}, "a name of its own"),
        ({"parties": [{**PARTIES[0], "flor": 0.2}]}, "flor"),
    ],
)
def test_wishes_that_contradict_themselves_are_no_spec(fields, words) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(**fields)
    assert words in f"{caught.value.detail} {caught.value.cure}"


@pytest.mark.parametrize(
    "found", [{"front": []}, {"front": [[1.0, 2]]}, {"front": [], "objectives": FOUND["objectives"]}]
)
def test_a_search_that_has_found_nothing_yet_says_so(found) -> None:
    with pytest.raises(Conflict, match="a search that has found a point"):
        answered(found)
