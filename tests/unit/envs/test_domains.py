"""What every environment of this package owes, whatever its domain: bits, masks, pictures, cards, a user's own reward."""

import importlib.metadata
import itertools

import numpy as np
import pytest

from rlaas_ray.envs import check, philox, registry, scoring, vector
from rlaas_ray.envs.catalogue import ENTRIES
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.policies import builtin, spaces

OURS = registry.ours()
everyone = pytest.mark.parametrize("env", OURS)


def halves(objectives):
    """A user's reward: half of the first objective."""
    first = next(iter(objectives))
    return 0.5 * objectives[first]


def wrong(objectives):
    """A user's reward that forgets the batch."""
    return 1.0


def legal(seen, *, space, rng, count, ready=None):
    """A batch of random actions (`ready` where they were drawn before), allowed ones where the observation says which."""
    actions = np.stack([np.asarray(space.sample()) for _ in range(count)]) if ready is None else ready
    if isinstance(seen, dict) and "action_mask" in seen:
        noise = rng.random(seen["action_mask"].shape)
        actions = np.where(np.asarray(seen["action_mask"], bool), noise, -1.0).argmax(axis=1)
    return actions


def arrays(value):
    """The arrays of an observation, however its dicts are nested."""
    return [leaf for name in sorted(value) for leaf in arrays(value[name])] if isinstance(value, dict) else [value]


def walk(env, *, count, steps, rows=slice(None), actions=None, seed=3):
    """Everything that leaves `rows` of `count` worlds over some steps, with the actions that were taken."""
    made, rng = registry.domain(env), np.random.default_rng(0)
    made.action_space.seed(0)
    streams = philox.streams(seed, num_envs=count).take(rows)
    state, seen, _ = made.reset(streams)
    kept, taken = [arrays(seen)], []
    for t in range(steps):
        action = legal(seen, space=made.action_space, rng=rng, count=count) if actions is None else actions[t][rows]
        taken.append(action)
        state, seen, reward, cost, ended, cut, info = made.step(state, made.check(action), streams=streams)
        told = [np.asarray(info[name]) for name in made.reported]
        kept.append([*arrays(seen), reward, cost, ended, cut, *told, *(state[name] for name in sorted(state))])
    return kept, taken


@everyone
def test_a_world_alone_gives_the_same_bits_as_among_others(env):
    many, taken = walk(env, count=19, steps=12)
    for rows in (slice(0, 1), slice(7, 8), slice(18, 19), slice(4, 11)):
        some, _ = walk(env, count=19, steps=12, rows=rows, actions=taken)
        for whole, part in zip(many, some, strict=True):
            assert all(np.array_equal(a[rows], b, equal_nan=True) for a, b in zip(whole, part, strict=True))


@pytest.mark.slow
@everyone
def test_a_hundred_thousand_steps_are_the_same_alone_and_together_and_after_a_new_reset(env):
    count, steps = (1024, 98) if env != registry.RAN else (64, 40)
    many, taken = walk(env, count=count, steps=steps)
    again, _ = walk(env, count=count, steps=steps, actions=taken)
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for x, y in zip(many, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    for row in (5, count - 1):
        rows = slice(row, row + 1)
        alone, _ = walk(env, count=count, steps=steps, rows=rows, actions=taken)
        for whole, part in zip(many, alone, strict=True):
            assert all(np.array_equal(a[rows], b, equal_nan=True) for a, b in zip(whole, part, strict=True))


@everyone
def test_it_passes_every_check(env):
    found = check.check(env)
    assert check.fit(found)
    assert [finding for finding in found if not finding.passed and not finding.advice] == []


@everyone
def test_its_numbers_are_described_and_finite(env):
    made = registry.make_vector(env, num_envs=7, seed=1)
    seen, info = made.reset()
    rng = np.random.default_rng(0)
    names, costs = made.metadata["objectives"], made.metadata["costs"]
    assert made.metadata["modes"]
    assert len(costs) == len(made.metadata["cost_limits"])
    assert all(direction in {"min", "max"} for _, _, direction in names)
    for _ in range(20):
        actions = legal(seen, space=made.single_action_space, rng=rng, count=7)
        seen, reward, _, _, info = made.step(actions)
        assert reward.dtype == np.float64
        assert np.isfinite(reward).all()
        assert info["objectives"].shape == (7, len(names))
        assert info["cost"].shape == (7, len(costs))
        assert np.isfinite(info["objectives"]).all()
        assert np.isfinite(info["cost"]).all()
        assert made.observation_space.contains(seen)


# A million steps each. Slates and dataflows walk theirs in their own tests; RanControl, 20 times as dear, in four parts.
MANY = [
    *((registry.RAN, 256, 977, seed) for seed in (6, 7, 8, 9)),
    ("rlaas/EdgePlacement-v1", 4096, 245, 6),
    ("rlaas/DroneDelivery-v1", 4096, 245, 6),
    ("rlaas/DroneFleet-v1", 512, 200, 6),  # of ten drones
]


@pytest.mark.slow
@pytest.mark.parametrize(("env", "count", "steps", "seed"), MANY)
def test_many_random_steps_stay_finite_and_in_their_spaces(env, count, steps, seed):
    made, rng = registry.make_vector(env, num_envs=count, seed=seed), np.random.default_rng(seed)
    seen, _ = made.reset()
    made.action_space.seed(seed)
    drawn = [made.action_space.sample() for _ in range(16)]
    for t in range(steps):
        actions = drawn[t % len(drawn)]
        if isinstance(seen, dict):
            actions = legal(seen, space=made.single_action_space, rng=rng, count=count, ready=actions)
        seen, reward, _, _, info = made.step(actions)
        flat = np.concatenate([np.asarray(one).reshape(count, -1) for one in arrays(seen)], axis=1)
        assert np.isfinite(flat).all()
        assert np.isfinite(reward).all()
        assert np.isfinite(info["objectives"]).all()
        assert (info["cost"] >= 0).all()
        if "invalid" in info:
            assert not info["invalid"].any()  # what the mask allows is what the dynamics allow
    assert made.observation_space.contains(seen)


@everyone
def test_a_picture_shows_the_state_and_changes_nothing(env):
    made = vector.DomainEnv(registry.domain(env), render_mode="rgb_array")
    made.reset(seed=2)
    before = {name: value.copy() for name, value in made._state.items()}
    first = made.render()
    assert first.dtype == np.uint8
    assert first.shape[0] >= 300
    assert first.std() > 5  # not one colour
    assert all(np.array_equal(before[name], made._state[name], equal_nan=True) for name in before)
    assert vector.DomainEnv(registry.domain(env)).render() is None


@pytest.fixture
def importable(request, monkeypatch):
    monkeypatch.syspath_prepend(request.path.parent)


@everyone
@pytest.mark.usefixtures("importable")
def test_a_users_reward_replaces_the_envs_own(env):
    own = registry.make_vector(env, num_envs=3, seed=4, config={"reward": "test_domains:halves"})
    seen, _ = own.reset()
    rng = np.random.default_rng(0)
    seen, reward, _, _, info = own.step(legal(seen, space=own.single_action_space, rng=rng, count=3))
    assert np.array_equal(reward, 0.5 * info["objectives"][:, 0])


@pytest.mark.usefixtures("importable")
def test_a_reward_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="reward"):
        registry.make(registry.RAN_TINY, config={"reward": "test_domains:missing"})
    with pytest.raises(NotFound, match="nowhere"):
        registry.make(registry.RAN_TINY, config={"reward": "nowhere:f"})
    made = registry.make(registry.RAN_TINY, config={"reward": "test_domains:wrong"})
    made.reset(seed=0)
    with pytest.raises(InvalidInput, match="reward function"):
        made.step(made.action_space.sample())


@everyone
def test_its_baselines_can_serve_and_its_entry_point_names_their_module(env):
    (entry,) = importlib.metadata.entry_points(group=builtin.GROUP, name=env)
    assert entry.value == ENTRIES[env].baselines
    module = registry.baselines_of(env)
    assert module.REFERENCE in {*module.POLICIES, *module.REFERENCES}
    assert "random" in module.POLICIES
    observation_space, _ = registry.spaces(env)
    made = registry.make_vector(env, num_envs=5, seed=0)
    seen, _ = made.reset()
    encoded = spaces.encode(observation_space, seen)
    for name, factory in module.POLICIES.items():
        policy = factory()
        assert policy.head.size == policy.distribution(encoded).shape[1], name
        play = scoring.act_of(policy, env=env)()
        assert made.action_space.contains(play(seen, np.random.default_rng(0))), name


@everyone
def test_its_card_was_measured_with_this_code(env):
    card, module = scoring.reference(env), registry.baselines_of(env)
    assert card["env"] == env
    assert len(card["git"]) == 40
    assert list(card["modes"]) == list(scoring.settings(env))
    for name, (mode, config) in itertools.islice(scoring.settings(env).items(), 1):
        entry = card["modes"][name]
        assert list(entry["policies"]) == [*module.card(mode), *module.REFERENCES]
        assert len(entry["seeds"]) >= 5
        assert entry["episodes"] >= 20
        kept = entry["policies"]["random"]["returns"][0]
        play = scoring.act_of(module.card(mode)["random"], env=env, config=config)
        found, _ = scoring.episode_returns(
            env, play, mode=mode, seeds=entry["seeds"][:1], episodes=entry["episodes"], config=config
        )
        assert np.round(found, 4).tolist() == kept


@everyone
def test_random_is_nought_and_the_reference_a_hundred(env):
    card = scoring.reference(env)
    for entry in card["modes"].values():
        low, high = (np.ravel(entry["policies"][entry[who]]["returns"]) for who in ("random", "reference"))
        assert scoring._score(low, low=low, high=high)[0] == pytest.approx(0.0)
        assert scoring._score(high, low=low, high=high)[0] == pytest.approx(100.0)
        assert low.mean() < high.mean()
