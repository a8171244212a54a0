"""Environments by name: ours, Gymnasium's and anybody's, and what is said when one cannot be had."""

import sys
import types

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import check, registry, speed
from rlaas_ray.errors import InvalidInput, NotFound


class Good(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, bonus=0.0):
        self.bonus = bonus

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action) + self.bonus, False, False, {}


class OldApi(Good):
    def step(self, action):
        return super().step(action)[:4]


class NoInfo(Good):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class Outside(Good):
    def reset(self, *, seed=None, options=None):
        return np.full(2, 7.0, np.float32), {}


class NoSpaces(Good):
    observation_space = None


class Forgetful(Good):
    """Ignores its seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Broken(Good):
    def __init__(self):
        raise RuntimeError("no licence")


@pytest.fixture(autouse=True)
def users_module(monkeypatch):
    module = types.ModuleType("users_module")
    for one in (Good, OldApi, NoInfo, Outside, NoSpaces, Forgetful, Broken):
        setattr(module, one.__name__, one)
    module.number = 3
    monkeypatch.setitem(sys.modules, "users_module", module)


def test_our_ids_work_with_gymnasium_make_and_make_vec():
    for env in registry.ours():
        gymnasium.make(env).reset(seed=0)
        worlds = gymnasium.make_vec(env, num_envs=2, vectorization_mode="vector_entry_point")
        assert worlds.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        worlds.reset(seed=0)
        assert worlds.spec.id == env


def test_gymnasium_can_be_told_the_module_in_the_id():
    assert gymnasium.make(f"rlaas_ray.envs.registry:{registry.RAN_TINY}").reset(seed=0)[0].shape == (14,)


def test_known_names_ours_first_and_gymnasiums_too():
    assert registry.known()[: len(registry.ours())] == registry.ours()
    assert "CartPole-v1" in registry.known()


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", "users_module:Good"])
def test_any_environment_becomes_a_seeded_vector(env):
    def first(seed, index=0):
        return registry.make_vector(env, num_envs=3, seed=seed, first_index=index).reset()[0]

    assert first(1).shape[0] == 3
    assert np.array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))
    assert not np.array_equal(first(1), first(1, index=3))
    assert isinstance(registry.make_vector(env, num_envs=2, seed=0).metadata["autoreset_mode"], AutoresetMode)


def test_a_class_takes_its_configuration():
    made = registry.make("users_module:Good", config={"bonus": 2.0})
    made.reset(seed=0)
    assert made.step(1)[1] == 3.0


@pytest.mark.parametrize(
    ("env", "config", "error", "words"),
    [
        ("CartPool-v1", None, NotFound, "CartPole"),
        ("no_such_module:Env", None, NotFound, "no_such_module"),
        ("users_module:God", None, InvalidInput, "Good"),
        ("users_module:number", None, InvalidInput, "subclass of gymnasium.Env"),
        ("users_module:Good", {"bonsu": 1}, InvalidInput, "bonsu"),
        ("users_module:Broken", None, InvalidInput, "no licence"),
        ("users_module:OldApi", None, InvalidInput, "a tuple of 4"),
        ("users_module:NoInfo", None, InvalidInput, "reset"),
        ("users_module:Outside", None, InvalidInput, "an observation of shape"),
        ("users_module:NoSpaces", None, InvalidInput, "observation_space"),
        ("rlaas/RanControl-v2", None, NotFound, "RanControl"),
    ],
)
def test_what_cannot_be_had_is_said_with_its_cure(env, config, error, words):
    with pytest.raises(error) as caught:
        registry.make_vector(env, num_envs=2, seed=0, config=config)
    assert words in f"{caught.value} {caught.value.cure}"
    assert caught.value.expected
    assert caught.value.cure


def test_a_mode_for_an_environment_without_modes_is_refused():
    with pytest.raises(InvalidInput, match="mode"):
        registry.make("CartPole-v1", mode="emergency")


def test_the_name_of_the_data_set_is_the_ran_environment():
    assert registry.resolve("5g_network_data") == registry.RAN
    assert registry.training_view("5g_network_data") is registry.training_view(registry.RAN)
    worlds = registry.make_vector("5g_network_data", num_envs=2, seed=4)
    assert np.array_equal(worlds.reset()[0], registry.make_vector(registry.RAN, num_envs=2, seed=4).reset()[0])


def test_check_passes_ours_and_names_the_fault_of_others():
    assert check.fit(check.check(registry.RAN, config={"action": "discrete"}))
    assert check.fit(check.check("users_module:Good"))
    findings = check.check("users_module:Forgetful")
    assert not check.fit(findings)
    assert "the same seed gives the same episode" in [finding.name for finding in findings if not finding.passed]


def test_speed_compares_the_vector_form_with_one_by_one():
    ticks = iter(range(1000))
    found = speed.measure(registry.RAN_TINY, num_envs=4, clock_s=lambda: float(next(ticks)), seconds=3.0)
    assert found.vector_us == found.sync_us == found.copy_us == pytest.approx(1.0 / 4 * 1e6)
    assert found.ratio == 1.0
