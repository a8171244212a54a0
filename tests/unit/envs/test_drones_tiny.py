"""The tiny drone: the page's exact values, solved a second time through the domain's own steps, and the optimum that plays."""

import numpy as np
import pytest

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import baselines_tiny, tiny

VALUES = [(0.1, 60, 10.092864), (0.0, 60, 10.6), (0.1, 45, 5.256697), (0.1, 36, -6.591828)]


@pytest.mark.parametrize(("drift", "energy", "value"), VALUES)
def test_the_optimum_is_the_pages(drift, energy, value):
    assert tiny.optimum(drift=drift, energy=energy) == pytest.approx(value, abs=1e-6)


def test_uniform_actions_are_worth_what_the_page_says():
    assert tiny.uniform_value(drift=0.1) == pytest.approx(-14.322750, abs=1e-6)
    assert tiny.uniform_value(drift=0.0) == pytest.approx(-14.259383, abs=1e-6)


@pytest.mark.slow
def test_the_optimum_again_from_reachable_states_through_step():
    """Values of the states that can be reached, by the step itself under each drift, from the last step to the first."""
    made = tiny.Tiny()
    start, _, _ = made.reset(philox.streams(0, num_envs=1))
    keys = ("phase", "x", "v", "e")
    layers, moves = [np.stack([start[key] for key in keys], axis=1)], []
    for t in range(tiny.STEPS):
        now, reached, layer = layers[-1], [], []
        for u in (-1, 0, 1):
            for drift in (-1, 0, 1):
                state = {key: now[:, k] for k, key in enumerate(keys)} | {"t": np.full(len(now), t)}
                new, objectives, done = tiny.advance(state, np.full(len(now), u), drift=np.full(len(now), drift))
                reward = 10 * objectives[:, 0] + 2 * objectives[:, 1] - objectives[:, 2] - 10 * objectives[:, 3] - 0.1
                after = np.stack([new[key] for key in keys], axis=1)
                reached.append(after[~done])
                layer.append((reward, after, done))
        layers.append(np.unique(np.concatenate(reached), axis=0) if sum(map(len, reached)) else now[:0])
        moves.append(layer)
    values = np.zeros(len(layers[-1]))
    for t in range(tiny.STEPS - 1, -1, -1):
        index = {tuple(row): k for k, row in enumerate(layers[t + 1].tolist())}
        worth = np.zeros((3, len(layers[t])))
        for k, (reward, after, done) in enumerate(moves[t]):
            later = [0.0 if over else values[index[tuple(row)]] for row, over in zip(after.tolist(), done, strict=True)]
            worth[k // 3] += (0.8 if k % 3 == 1 else 0.1) * (reward + np.asarray(later))
        values = worth.max(axis=0)
    assert values[0] == pytest.approx(10.092864, abs=1e-6)


def test_the_optimum_plays_what_it_promises():
    made, policy, count = tiny.Tiny(), baselines_tiny.optimum(), 20_000
    streams = philox.streams(0, num_envs=count)
    state, seen, _ = made.reset(streams)
    total, on = np.zeros(count), np.ones(count, bool)
    for _ in range(tiny.STEPS):
        state, seen, reward, _, ended, _, _ = made.step(state, made.check(policy.distribution(seen)), streams=streams)
        total += reward * on
        on &= ~ended
    assert total.mean() == pytest.approx(10.092864, abs=4 * total.std() / np.sqrt(count))


def test_a_wall_stops_and_an_empty_battery_earns_nothing():
    state = {name: np.asarray([value]) for name, value in {"t": 0, "x": 20, "v": 1, "phase": 1, "e": 60}.items()}
    new, objectives, done = tiny.advance(state, np.asarray([1]), drift=np.asarray([0]))
    assert (new["x"][0], new["v"][0], new["e"][0], done[0]) == (20, 0, 57, False)
    assert objectives[0].tolist() == [0, 0, 1, 0, 1]
    state = {name: np.asarray([value]) for name, value in {"t": 0, "x": 17, "v": 0, "phase": 1, "e": 3}.items()}
    new, objectives, done = tiny.advance(state, np.asarray([0]), drift=np.asarray([0]))
    assert (new["e"][0], done[0]) == (0, True)
    assert objectives[0].tolist() == [0, 0, 0, 1, 1]


def test_thirds():
    assert tiny.throttle(np.asarray([-1.0, -1 / 3, -0.33, 0.0, 0.33, 1 / 3, 1.0])).tolist() == [-1, -1, 0, 0, 0, 1, 1]
