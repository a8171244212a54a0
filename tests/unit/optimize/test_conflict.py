"""Several parties: the rules on the worked tables, floors and what to relax, regret, and words."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import conflict

AGREE = np.array([[1, 0.6, 0], [0, 0.6, 1]])
SPLIT = np.array([[1, 0.45, 0.1], [0.1, 0.45, 1]])


def test_where_the_middle_is_good_every_rule_takes_it() -> None:
    taken = {rule: conflict.resolve(AGREE, rule=rule) for rule in conflict.RULES}
    assert taken["weighted"].score == pytest.approx([1, 1.2, 1])
    assert taken["nash"].score == pytest.approx([0, 0.36, 0])
    assert taken["maximin"].score == pytest.approx([0, 0.6, 0])
    assert {found.index for found in taken.values()} == {1}
    assert taken["nash"].by_rule == dict.fromkeys(conflict.RULES, 1)
    assert taken["nash"].reason.endswith("Every rule takes it.")


def test_where_the_ends_are_better_in_sum_the_fair_rules_take_the_middle() -> None:
    plain, nash, maximin = (conflict.resolve(SPLIT, rule=rule) for rule in ("weighted", "nash", "maximin"))
    assert (plain.index, plain.score.tolist()) == (0, pytest.approx([1.1, 0.9, 1.1]))
    assert (nash.index, nash.score.tolist()) == (1, pytest.approx([0.1, 0.2025, 0.1]))
    assert (maximin.index, maximin.score.tolist()) == (1, pytest.approx([0.1, 0.45, 0.1]))
    assert nash.regret == pytest.approx([0.55, 0.55])
    assert plain.alternatives.tolist() == [2]
    assert "The sum alone takes point 0 (party 1 1, party 2 0.1); nash changed the choice." in nash.reason


def test_nash_is_the_product_over_disagreement_to_the_power_of_the_weights() -> None:
    rng = np.random.default_rng(5)
    utility, weight, least = rng.random((3, 7)), np.array([1.0, 2, 3]), np.array([0.0, 0.1, 0.05])
    found = conflict.resolve(utility, weights=weight, disagreement=least)
    expected = np.prod(np.maximum(utility - least[:, None], 0) ** (weight / 2)[:, None], axis=0)
    assert found.score == pytest.approx(expected)
    assert found.index == expected.argmax()


def test_many_parties_do_not_underflow_into_a_tie() -> None:
    utility = np.full((40, 3), 0.3)
    utility[0, 1] = 0.301
    assert conflict.resolve(utility).index == 1
    assert conflict.resolve(utility).alternatives.tolist() == [0, 2]


def test_maximin_looks_at_the_next_worst_where_the_worst_are_equal() -> None:
    utility = np.array([[0.4, 0.4, 0.9], [0.6, 0.5, 0.4], [0.7, 0.9, 0.6]])
    # Sorted: 0.4 0.6 0.7, 0.4 0.5 0.9 and 0.4 0.6 0.9: the second bars the one in the middle, the third decides.
    assert conflict.resolve(utility, rule="maximin").index == 2
    assert conflict.resolve(utility[:, :2].copy(), rule="maximin").index == 0


def test_when_every_option_leaves_somebody_with_nothing_the_worst_off_decides_and_it_is_said() -> None:
    utility = np.array([[1.0, 0, 0.4], [0, 1.0, 0], [0.2, 0.2, 0.9]])
    found = conflict.resolve(utility)
    assert (found.rule, found.used) == ("nash", "maximin")
    assert found.index == conflict.resolve(utility, rule="maximin").index
    assert "leaves somebody at disagreement" in found.reason


def test_floors_bar_options_whatever_the_rule_and_veto_is_floors_alone() -> None:
    utility = np.array([[1, 0.45, 0.1], [0.1, 0.45, 1.0]])
    for rule in conflict.RULES:
        found = conflict.resolve(utility, rule=rule, floors=np.array([-np.inf, 0.3]))
        assert found.index in {1, 2}
        assert found.score[0] == -np.inf
        assert "1 of 3 points are below" in found.reason
    assert conflict.resolve(utility, rule="veto", floors=np.array([-np.inf, 0.3])).index == 2  # the larger sum


def test_where_no_option_meets_all_floors_nothing_is_picked_and_the_least_to_relax_is_told() -> None:
    found = conflict.resolve(SPLIT, floors=np.array([0.5, 0.3]), parties=["a", "b"])
    assert found.index is None
    assert found.relax == {"floor of a": (0.5, 0.45)}
    assert found.relaxed_index == 1
    assert "the floor of a from 0.5 to 0.45: then point 1 does" in found.reason
    after = conflict.resolve(SPLIT, floors=np.array([0.45, 0.3]))
    assert after.index == 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), parties=st.integers(1, 5), options=st.integers(1, 12))
def test_the_floors_to_relax_are_the_smallest_total_and_relaxing_them_opens_an_option(seed, parties, options) -> None:
    rng = np.random.default_rng(seed)
    utility, floors = rng.random((parties, options)), 0.4 + 0.6 * rng.random(parties)
    found = conflict.resolve(utility, floors=floors)
    missed = np.maximum(floors[:, None] - utility, 0).sum(axis=0)
    assert (found.index is None) == (missed.min() > conflict.TIE)
    if found.index is None:
        assert sum(was - needed for was, needed in found.relax.values()) == pytest.approx(missed.min())
        names = {f"floor of party {p + 1}": p for p in range(parties)}
        relaxed = floors.copy()
        for name, (_, needed) in found.relax.items():
            relaxed[names[name]] = needed
        assert conflict.resolve(utility, floors=relaxed).index is not None
        for name in found.relax:  # each of them is needed
            part, party = relaxed.copy(), names[name]
            part[party] = floors[party]
            assert (utility[:, found.relaxed_index] < part).any()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    parties=st.integers(1, 5),
    options=st.integers(1, 15),
    rule=st.sampled_from(conflict.RULES),
)
def test_order_of_options_and_parties_changes_nothing_and_the_choice_is_not_dominated(
    seed, parties, options, rule
) -> None:
    rng = np.random.default_rng(seed)
    utility, weight = conflict.scaled(rng.random((parties, options))), rng.random(parties) + 0.1
    found = conflict.resolve(utility, rule=rule, weights=weight)
    across, down = rng.permutation(options), rng.permutation(parties)
    turned = conflict.resolve(utility[down][:, across], rule=rule, weights=weight[down])
    assert across[turned.index] == found.index
    gain = utility - utility[:, [found.index]]
    assert not ((gain >= 0).all(axis=0) & (gain > 1e-9).any(axis=0)).any()
    assert ((found.regret >= 0) & (found.regret <= 1)).all()


def test_nash_does_not_care_for_the_units_of_a_party() -> None:
    rng = np.random.default_rng(8)
    value = rng.random((3, 30))
    index = conflict.resolve(conflict.scaled(value)).index
    moved = value * np.array([[3.0], [0.1], [50]]) + np.array([[7.0], [-2], [0]])
    assert conflict.resolve(conflict.scaled(moved)).index == index


def test_scaled_puts_disagreement_at_nothing_and_the_best_at_one() -> None:
    value = np.array([[10.0, 20, 30], [5, 5, 5]])
    assert conflict.scaled(value).tolist() == [[0, 0.5, 1], [1, 1, 1]]
    assert conflict.scaled(value, disagreement=np.array([20.0, 5]))[0].tolist() == [-1, 0, 1]


def test_many_parties_are_told_by_those_who_are_worst_off() -> None:
    found = conflict.resolve(np.random.default_rng(1).random((9, 50)))
    worst = int(found.utility[:, found.index].argmin())
    assert f"worst off party {worst + 1} " in found.reason


@pytest.mark.parametrize(
    ("utility", "more", "words"),
    [
        (np.ones(3), {}, "(parties, options) float64"),
        (np.array([[np.nan, 1.0]]), {}, "finite"),
        (np.array([[2.0, 1.0]]), {}, "Use `scaled`"),
        (SPLIT, {"rule": "nahs"}, "Did you mean 'nash'"),
        (SPLIT, {"weights": np.ones(3)}, "2 numbers >= 0"),
        (SPLIT, {"weights": np.zeros(2)}, "positive sum"),
        (SPLIT, {"floors": np.array([0.1, np.nan])}, "utilities"),
    ],
)
def test_what_is_no_conflict_is_refused(utility, more, words) -> None:
    with pytest.raises(InvalidInput) as caught:
        conflict.resolve(utility, **more)
    assert words in f"{caught.value.detail} {caught.value.cure}"


def test_every_order_of_three_parties_gives_the_same_fair_choice() -> None:
    utility = np.array([[1, 0.5, 0.2], [0.2, 0.5, 1], [0.6, 0.55, 0.6]])
    found = {conflict.resolve(utility[list(order)]).index for order in itertools.permutations(range(3))}
    assert found == {1}


def test_demands_in_units_of_their_own_bar_options_and_are_told_in_them() -> None:
    latency = np.array([12.0, 20, 45])
    level = 1 - (latency - 12) / 33
    wanted = conflict.Demand(name="latency of a", level=level, floor=1 - 8 / 33, shown=latency, limit=20.0, unit="ms")
    assert conflict.resolve(SPLIT, rule="weighted", demands=[wanted]).index == 0
    assert conflict.resolve(SPLIT, rule="weighted", demands=[wanted]).score[2] == -np.inf
    none = conflict.resolve(SPLIT, floors=np.array([-np.inf, 0.9]), parties=["a", "b"], demands=[wanted])
    assert none.index is None
    # Option 1 misses b's floor by 0.45 and no demand, option 2 misses a's latency by 25/33, option 0 the floor by 0.8.
    assert none.relax == {"floor of b": (0.9, 0.45)}
    higher = conflict.resolve(SPLIT, floors=np.array([0.05, 0.44]), demands=[wanted])
    assert higher.index == 1
    only = conflict.Demand(name="latency of a", level=level, floor=1.1, shown=latency, limit=8.7, unit="ms")
    assert "the latency of a from 8.7 ms to 12 ms: then point 0 does" in conflict.resolve(SPLIT, demands=[only]).reason
