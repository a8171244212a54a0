"""Spaces: what a TuneSpec may say, every name checked, every draw a point of the space."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs import document
from rlaas_ray.specs import tune as specs
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import journal, spaces
from rlaas_ray.tune.spaces import Choice, Float, Int


def spec(space, **more) -> TuneSpec:
    subject = {"function": "studies:branin"} if "train" not in more else {}
    return document.parse(TuneSpec, {**subject, "space": space, **more})


TRAIN = {"env": "CartPole-v1", "algorithm": "ppo"}


def test_the_example_of_the_contract_is_read() -> None:
    found = spaces.of(
        spec(
            {
                "learning_rate": {"low": "1e-5", "high": "1e-2", "log": True},
                "minibatch_size": {"choice": [64, 128, 256]},
            },
            train=TRAIN,
        )
    )
    assert found.domains["learning_rate"] == Float(low=1e-5, high=1e-2, log=True)
    assert found.domains["minibatch_size"] == Choice(listed=(64, 128, 256))


def test_what_is_whole_in_a_training_is_whole_here() -> None:
    found = spaces.of(spec({"epochs": {"low": 1, "high": 8}, "gamma": {"low": 0.9, "high": 1}}, train=TRAIN))
    assert found.domains["epochs"] == Int(low=1, high=8)
    assert isinstance(found.domains["gamma"], Float)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learning_rat": {"low": 1e-4, "high": 1e-2}}, "learning_rate"),
        ({"learning_rate": {"low": 0, "high": 1e-2}}, "learning_rate = 0.0"),
        ({"seed": {"low": 0, "high": 3}}, "same in all trials"),
        ({"network.hiden": {"choice": [[64]]}}, "hidden"),
        ({"options.n_step": {"low": 1, "high": 3}}, "n_step"),
        ({"network.activation": {"choice": ["tanh", "sine"]}}, "sine"),
        ({"gamma": {"low": 1, "high": 0.5}}, "`low` below `high`"),
        ({"gamma": {"low": 0.5}}, "`low` and `high`"),
        ({"gamma": {"low": 0.5, "high": 1, "choice": [1]}}, "`low` and `high`"),
        ({"gamma": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"gamma": {"low": 0.5, "high": 1, "when": {"algoritm": "ppo"}}}, "algoritm"),
    ],
)
def test_what_no_trial_takes_is_refused_by_name(space, words) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec(space, train=TRAIN)


def test_options_of_each_algorithm_that_a_trial_may_have() -> None:
    made = spec(
        {
            "algorithm": {"choice": ["ppo", "dqn"]},
            "n_step": {"low": 1, "high": 5, "when": {"algorithm": "dqn"}},
            "clip": {"low": 0.1, "high": 0.3, "when": {"algorithm": ["ppo"]}},
        },
        train=TRAIN,
    )
    assert made.train is not None
    options = list(specs.option_fields(made.train, made.space) or ())
    body = specs.body(made.train, {"algorithm": "dqn", "n_step": 3}, options=options)
    assert body["options"] == {"n_step": 3}
    for index in range(50):
        drawn = spaces.of(made).draw(np.random.default_rng(index))
        assert ("n_step" in drawn) == (drawn["algorithm"] == "dqn")
        assert ("clip" in drawn) == (drawn["algorithm"] == "ppo")


def test_a_ring_of_conditions_is_refused() -> None:
    ring = {"a": {"choice": [1, 2], "when": {"b": 1}}, "b": {"choice": [1, 2], "when": {"a": 1}}}
    with pytest.raises(InvalidInput, match="ring"):
        spec(ring)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"objective": [{"metric": "a"}, {"metric": "b"}], "scheduler": "asha"}, "several objectives"),
        ({"search": "cmaes", "objective": [{"metric": "a"}, {"metric": "b"}]}, "cmaes"),
        ({"search": "cmaes", "constraints": ["a <= 1"]}, "constraints"),
        ({"search": "grid"}, "grid needs"),
        ({"search": "random", "warm_start": ["tune-x"]}, "learn from nothing"),
        ({"executor": "pool", "scheduler": "hyperband", "search": "random"}, "executor pool has no hyperband"),
        ({"scheduler": "hyperband"}, "search random or grid"),
        ({"executor": "tune", "constraints": ["a <= 1"]}, "one objective and no constraints"),
        ({"objective": "evaluation.return_mean", "scheduler": "asha"}, "scheduler.metric"),
        ({"constraints": ["a < 1"]}, "a < 1"),
        ({"scheduler": {"kind": "asha", "eta": 1}}, "eta"),
    ],
)
def test_what_does_not_go_together_is_refused(more, words) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec({"x": {"low": 0, "high": 1}}, **more)


def test_a_population_changes_nothing_that_shapes_a_network() -> None:
    with pytest.raises(InvalidInput, match=r"network\.hidden"):
        spec({"network.hidden": {"choice": [[64], [128]]}}, train=TRAIN, scheduler="pbt")


def test_a_grid_has_each_point_once_and_conditions_leave_no_doubles() -> None:
    made = spec(
        {
            "kind": {"grid": ["a", "b"]},
            "only_a": {"grid": [1, 2, 3], "when": {"kind": "a"}},
            "x": {"low": 0, "high": 1, "step": 0.5},
        },
        search="grid",
    )
    found = list(spaces.of(made).all())
    assert len(found) == 3 * 3 + 3
    assert {"kind": "b", "x": 0.5} in found
    assert len({repr(sorted(point.items())) for point in found}) == len(found)


finite = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
ranges = st.tuples(finite, finite).filter(lambda ends: ends[1] - ends[0] > 1e-6)
share = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(ends=ranges, share=share)
def test_a_float_lies_in_its_range(ends, share) -> None:
    domain = Float(low=ends[0], high=ends[1])
    assert domain.holds(domain.at(share))


@given(ends=st.tuples(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6)).filter(lambda e: e[1] > e[0] * 1.001), share=share)
def test_a_float_on_a_log_scale_lies_in_its_range(ends, share) -> None:
    domain = Float(low=ends[0], high=ends[1], log=True)
    assert domain.holds(domain.at(share))


@given(low=st.integers(1, 1000), width=st.integers(1, 1000), step=st.integers(1, 7), log=st.booleans(), share=share)
def test_a_whole_number_is_one_of_its_values(low, width, step, log, share) -> None:
    domain = Int(low=low, high=low + width, step=1 if log else step, log=log)
    value = domain.at(share)
    assert domain.holds(value)
    for factor in (0.8, 1.2):
        assert domain.holds(domain.near(value, factor=factor))


@given(values=st.lists(st.one_of(st.integers(), st.text(max_size=3)), min_size=1, max_size=5, unique=True), share=share)
def test_a_choice_is_one_of_its_values(values, share) -> None:
    domain = Choice(listed=tuple(values))
    assert domain.holds(domain.near(domain.at(share), factor=1.2))


@given(seed=st.integers(0, 2**31 - 1))
def test_every_draw_is_a_point_of_the_space(seed) -> None:
    made = spaces.of(
        spec(
            {
                "kind": {"choice": ["a", ["b", 1]]},
                "rate": {"low": 1e-6, "high": 1e-1, "log": True},
                "size": {"low": 2, "high": 64, "log": True, "integer": True},
                "deep": {"low": 0, "high": 1, "step": 0.25, "when": {"kind": "a"}},
            }
        )
    )
    drawn = made.draw(np.random.default_rng(seed))
    assert made.holds(drawn)
    assert not made.holds({**drawn, "rate": 1.0})
    assert not made.holds({name: value for name, value in drawn.items() if name != "size"})


def test_each_whole_number_is_as_likely_as_the_next() -> None:
    rng = np.random.default_rng(0)
    drawn = [Int(low=1, high=4).at(float(rng.random())) for _ in range(4000)]
    counts = np.bincount(drawn, minlength=5)[1:]
    assert abs(counts - 1000).max() < 4 * math.sqrt(1000)


def test_the_digest_changes_with_the_space_and_not_with_the_number_of_hands() -> None:
    one = spec({"x": {"low": 0, "high": 1}}, trials=5, parallel=1)
    assert journal.digest(one) == journal.digest(one.model_copy(update={"trials": 9, "parallel": 4}))
    assert journal.digest(one) != journal.digest(spec({"x": {"low": 0, "high": 2}}, trials=5, parallel=1))
