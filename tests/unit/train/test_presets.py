"""Plans: the spec before the env's preset before the defaults; budgets; what is refused."""

import gymnasium
import pytest

from rlaas_ray import errors
from rlaas_ray.specs import document
from rlaas_ray.specs.train import Network, TrainSpec
from rlaas_ray.train import ledger, plans, presets, runner

DISCRETE = gymnasium.spaces.Discrete(2)
BOX = gymnasium.spaces.Box(-1, 1, (2,))
PRESET = {"gamma": 0.5, "time_limit_cpu_s": 45.0, "num_envs_per_runner": 64, "batch_size": 1024, "share": 0.5}


def test_the_specs_own_fields_win_over_the_preset_and_the_preset_over_defaults() -> None:
    plan = presets.resolve(TrainSpec(env="x", gamma=0.7, num_env_runners=0), action_space=BOX, preset=PRESET)
    assert plan.gamma == 0.7
    assert plan.share == 0.5
    assert plan.clip == 0.2
    assert (plan.envs, plan.steps, plan.batch) == (64, 16, 1024)


def test_the_batch_is_the_same_whatever_the_number_of_runners() -> None:
    for runners in (0, 1, 2, 4):
        plan = presets.resolve(TrainSpec(env="x", num_env_runners=runners), action_space=DISCRETE)
        assert plan.batch == 1024


def test_a_budget_that_is_named_replaces_the_presets() -> None:
    assert presets.resolve(TrainSpec(env="x"), action_space=BOX, preset=PRESET).time_limit_cpu_s == 45.0
    assert presets.resolve(TrainSpec(env="x"), action_space=BOX, preset=PRESET).total_timesteps is None
    named = presets.resolve(TrainSpec(env="x", total_timesteps=5), action_space=BOX, preset=PRESET)
    assert (named.total_timesteps, named.time_limit_cpu_s) == (5, None)
    assert presets.resolve(TrainSpec(env="x"), action_space=DISCRETE).total_timesteps == 100_000


def test_the_learning_rate_falls_linearly_with_the_budget_used() -> None:
    spec = TrainSpec(env="x", learning_rate=1e-3, learning_rate_final=2e-4, total_timesteps=1000)
    plan = presets.resolve(spec, action_space=DISCRETE)
    book = ledger.new(1)
    rates = []
    for steps in (0, 500, 1000, 2000):
        book.steps = steps
        used = ledger.fraction(book, plan=plan)
        rates.append(plans.linear(plan.learning_rate, plan.learning_rate_final, used=used))
    assert rates == pytest.approx([1e-3, 6e-4, 2e-4, 2e-4])


def test_a_learning_rate_that_ends_at_zero_is_taken_as_said() -> None:
    plan = presets.resolve(TrainSpec(env="x", learning_rate_final=0.0), action_space=DISCRETE)
    assert plan.learning_rate_final == 0.0


def test_networks_are_taken_whole() -> None:
    spec = TrainSpec(env="x", network=Network(hidden=(8,), activation="relu"))
    plan = presets.resolve(spec, action_space=DISCRETE)
    assert (plan.hidden, plan.activation) == ((8,), "relu")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"algorithm": "a3c"}, "a3c"),
        ({"env": "rlaas/RanControl-v1"}, "shared view"),
        ({"network": Network(memory="lstm")}, "memory"),
        ({"time_limit_cpu_s": 5.0}, "budget"),
        ({"algorithm": "dqn", "normalise_observations": True}, "normalise_observations"),
    ],
)
def test_what_rllibs_own_path_cannot_do_is_refused_by_name(fields: dict, named: str) -> None:
    with pytest.raises(errors.NotBuilt, match=named) as caught:
        runner.resolve(TrainSpec(**{"env": "CartPole-v1", "fast": "off", **fields}))
    assert caught.value.cure


def test_the_same_spec_means_the_same_on_both_paths() -> None:
    for algorithm in ("dqn", "ppo", "sac"):
        spec = TrainSpec(env="CartPole-v1", algorithm=algorithm, num_env_runners=0)
        _, columnar = runner.resolve(spec)
        _, stock = runner.resolve(spec.model_copy(update={"fast": "off"}))
        assert stock.settings == columnar
        assert stock.actors == 1  # RLlib's own path needs a Ray


def test_a_preset_with_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(errors.InvalidInput, match="gama"):
        presets.resolve(TrainSpec(env="x"), action_space=DISCRETE, preset={"gama": 0.5})


def test_the_return_asked_for_counts_only_over_a_hundred_episodes() -> None:
    plan = presets.resolve(TrainSpec(env="x", stop_at_return=10), action_space=DISCRETE)
    book = ledger.new(1)
    assert book.episode_return_mean is None
    book.recent.extend([20.0] * 99)
    assert not ledger.finished(book, plan=plan)
    book.recent.append(20.0)
    assert ledger.finished(book, plan=plan)
    book.recent.extend([0.0] * 51)
    assert book.episode_return_mean == pytest.approx(9.8)
    assert not ledger.finished(book, plan=plan)


def test_an_algorithm_that_there_is_not_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(errors.InvalidInput, match="ppo") as caught:
        document.parse(TrainSpec, {"env": "x", "algorithm": "ppp"})
    assert caught.value.pointer == "/algorithm"


def test_options_of_an_algorithm_stand_beside_the_other_fields_and_unknown_ones_are_refused_by_name() -> None:
    spec = document.parse(TrainSpec, {"env": "x", "algorithm": "dqn", "buffer_size": 100, "options": {"n_step": 3}})
    assert spec.options == {"buffer_size": 100, "n_step": 3}
    for body, word in (
        ({"algorithm": "dqn", "options": {"n_stp": 3}}, "n_step"),
        ({"algorithm": "ppo", "n_step": 3}, "n_step"),
        ({"algorithm": "dqn", "n_step": 0}, "greater than"),
    ):
        with pytest.raises(errors.RlaasError) as caught:
            document.parse(TrainSpec, {"env": "x", **body})
        assert word in f"{caught.value}"
