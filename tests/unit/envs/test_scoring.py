"""Scores stand on worlds that repeat bit by bit; the card's order of policies holds with its intervals."""

import numpy as np
import pytest

from rlaas_ray.envs import registry, scoring
from rlaas_ray.envs.ran import baselines, baselines_tiny, measures, references
from rlaas_ray.errors import InvalidInput, NotFound

CARD = scoring.reference(registry.RAN)
SOME = {"seeds": scoring.SEEDS[:1], "episodes": 20}


def _act(policy):
    return scoring.act_of(policy, env=registry.RAN)


@pytest.mark.parametrize("mode", ["normal", "energy_saving"])
def test_the_cards_returns_come_out_again_bit_by_bit(mode):
    kept = CARD["modes"][mode]["policies"]
    for name, policy in (("hold", baselines.hold()), ("random", baselines.random())):
        found = scoring.score(registry.RAN, _act(policy), mode=mode, **SOME)
        assert np.round(found.returns, 4).tolist() == kept[name]["returns"][0]
        assert found.mode == mode
        assert len(found.costs) == 4


def test_random_scores_exactly_zero_against_itself():
    found = scoring.score(registry.RAN, _act(baselines.random()), mode="normal", **SOME)
    assert found.score == pytest.approx(0.0, abs=1e-3)
    assert found.score_ci95 == pytest.approx((0.0, 0.0), abs=1e-3)


@pytest.mark.slow
def test_the_reference_comes_out_again_on_its_first_world():
    for name, played in baselines.REFERENCES.items():
        returns, _ = played(mode="energy_saving", seed=scoring.SEEDS[0], episodes=1, config={})
        kept = CARD["modes"]["energy_saving"]["policies"]
        assert returns[0] == pytest.approx(kept[name]["returns"][0][0], abs=1e-4)


@pytest.mark.parametrize("mode", list(measures.MODES))
def test_random_is_below_hold_not_above_grid_below_the_reference_below_the_bound(mode):
    entry = CARD["modes"][mode]
    some = entry["reference_episodes"]
    assert len(entry["seeds"]) >= 5
    assert entry["episodes"] >= 20

    def of(name, *, episodes):
        return np.asarray(entry["policies"][name]["returns"])[:, :episodes].ravel()

    def above(first, second, *, episodes):
        return scoring.difference_interval(of(first, episodes=episodes), of(second, episodes=episodes))[0]

    assert above("hold", "random", episodes=20) > 0
    assert above("grid", "hold", episodes=20) >= 0
    assert above(entry["reference"], "grid", episodes=some) > 0
    assert above("bound", entry["reference"], episodes=some) > 0


@pytest.mark.slow
def test_grid_constants_are_what_the_procedure_finds():
    assert references.grid_table() == baselines.GRID


def test_the_scale_has_random_at_zero_and_the_reference_at_hundred():
    low, high = np.arange(10.0), np.arange(10.0) + 20
    assert scoring._score(low + 10, low=low, high=high)[0] == pytest.approx(50.0)
    place, (least, most) = scoring._score(high, low=low, high=high)
    assert place == pytest.approx(100.0)
    assert least <= 100.0 <= most


def test_the_bootstrap_covers_the_mean_of_normal_samples_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        least, most = scoring.mean_interval(rng.normal(size=100))
        inside += least <= 0.0 <= most
    assert inside / 200 == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 200))


def test_other_worlds_modes_and_environments_have_no_score():
    act = _act(baselines.hold())
    with pytest.raises(InvalidInput, match="worlds to score on"):
        scoring.score(registry.RAN, act, mode="normal", seeds=[1])
    with pytest.raises(InvalidInput, match="mode"):
        scoring.score(registry.RAN, act, mode="turbo")
    with pytest.raises(NotFound, match="CartPole"):
        scoring.score("CartPole-v1", act)


def test_the_card_says_with_what_and_when_it_was_measured():
    assert len(CARD["git"]) == 40
    assert CARD["date"].startswith("20")
    assert set(CARD["modes"]) == set(measures.MODES)


def test_a_constant_setting_outside_the_ranges_is_refused():
    for bad in ({"power_dbm": 50}, {"tilt_deg": -1}, {"alpha": 0}):
        with pytest.raises(InvalidInput, match="constant"):
            baselines.constant(**bad)
    with pytest.raises(InvalidInput, match="mode"):
        baselines.grid("turbo")
    with pytest.raises(InvalidInput, match="mode"):
        baselines_tiny.grid("turbo")


def test_policies_approach_their_setting_and_stay():
    worlds = registry.make_vector(registry.RAN, num_envs=2, seed=0)
    policy = baselines.constant(power_dbm=37.0, tilt_deg=3.0, alpha=2.0)
    seen, _ = worlds.reset()
    for _ in range(5):
        seen, *_ = worlds.step(policy.distribution(seen))
    cells = seen[:, :273].reshape(2, 21, 13)
    assert cells[..., 0] == pytest.approx(np.full((2, 21), -0.125), abs=1e-5)
    assert cells[..., 1] == pytest.approx(np.full((2, 21), -0.6), abs=1e-5)
    assert cells[..., 2] == pytest.approx(np.full((2, 21), 0.5), abs=1e-5)


def test_load_balance_pushes_users_away_from_busier_cells():
    seen = np.zeros((1, measures.OBSERVATION), np.float32)
    cells = seen[:, :273].reshape(1, 21, 13)
    cells[0, 4, 4] = 1.0
    action = baselines.load_balance().distribution(seen).reshape(21, 4)
    assert action[4, 3] == pytest.approx(-0.25 / 6.0)
    assert (action[np.arange(21) != 4, 3] >= 0).all()
