"""Weights of a preference: what is one, how it is observed, how a bundle keeps it and takes another."""

import json

import gymnasium.spaces as gs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput, Tampered
from rlaas_ray.policies import bundle, preferences, spaces
from rlaas_ray.policies.preferences import Objective, Preference
from rlaas_ray.testing.bundles import a_bundle

TWO = Preference(
    objectives=(
        Objective(name="speed", unit="m/s", direction="max"),
        Objective(name="energy", unit="W", direction="min"),
    ),
    scale=(2.0, 50.0),
    default=(0.75, 0.25),
)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=2).filter(lambda w: sum(w) > 1e-6))
def test_weights_are_shares_in_the_order_of_the_objectives(raw: list[float]) -> None:
    found = TWO.weights_of({"energy": raw[1], "speed": raw[0]})
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found * sum(raw), raw, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found, TWO.weights_of(raw))


def test_an_objective_that_is_left_out_weighs_nothing_and_none_at_all_is_the_default() -> None:
    np.testing.assert_array_equal(TWO.weights_of({"energy": 3}), [0, 1])
    np.testing.assert_array_equal(TWO.weights_of(None), [0.75, 0.25])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"enery": 1.0}, "energy"),
        ({}, "speed"),
        ({"speed": -1.0, "energy": 2.0}, "at least 0"),
        ({"speed": float("nan")}, "at least 0"),
        ([1.0], "speed, energy"),
        ([float("inf"), 1.0], "at least 0"),
    ],
)
def test_what_are_no_weights_is_refused_with_a_cure(wrong: object, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TWO.weights_of(wrong)
    assert words in f"{refused.value} {refused.value.cure}"


def test_a_mask_stays_at_the_top_and_the_weights_come_last() -> None:
    own = gs.Dict({"zone": gs.Discrete(3), "action_mask": gs.MultiBinary(4), "load": gs.Box(0, 1, (2,), np.float32)})
    space = preferences.space(own, size=2)
    batch = {"zone": np.array([2, 0]), "action_mask": np.ones((2, 4), np.int8), "load": np.zeros((2, 2), np.float32)}
    weights = np.array([[0.25, 0.75], [1, 0]], np.float32)
    seen = preferences.observed(batch, weights=weights)
    encoded = spaces.encode(space, seen)
    np.testing.assert_array_equal(encoded, np.concatenate([spaces.encode(own, batch), weights], axis=1))
    assert spaces.action_mask(space, seen).shape == (2, 4)


def test_a_bundle_keeps_its_preference_and_takes_another(tmp_path) -> None:
    a_bundle(tmp_path / "b", preference=TWO)
    policy = bundle.load(tmp_path / "b", engine="numpy")
    assert policy.preference == TWO
    assert policy.manifest.format_version == 3
    assert policy.size == 6
    observation = np.array([0.1, -0.2, 0.3, 0.4], np.float32)
    np.testing.assert_allclose(policy.encode_one(observation), [*observation, 0.75, 0.25], rtol=1e-6)
    other = bundle.load(tmp_path / "b", engine="numpy", preference={"energy": 1.0})
    np.testing.assert_allclose(other.encode(observation[None])[0], [*observation, 0, 1], rtol=1e-6)
    by_row = policy.preferring(np.array([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(by_row.encode(np.zeros((2, 4)))[:, 4:], [[1, 0], [0.5, 0.5]])
    with pytest.raises(InvalidInput, match="batch"):
        by_row.encode(np.zeros((3, 4)))
    assert policy.act(observation) in {0, 1}
    assert bundle.verify(tmp_path / "b").preference == TWO


def test_a_policy_without_a_preference_takes_none(tmp_path) -> None:
    a_bundle(tmp_path / "b")
    with pytest.raises(InvalidInput) as refused:
        bundle.load(tmp_path / "b", engine="numpy", preference={"speed": 1.0})
    assert "preference: conditioned" in refused.value.cure


def test_a_manifest_that_lost_its_preference_is_tampered(tmp_path) -> None:
    a_bundle(tmp_path / "b", preference=TWO)
    path = tmp_path / "b" / "manifest.json"
    body = json.loads(path.read_text())
    del body["preference"]
    path.write_text(json.dumps(body))
    with pytest.raises(Tampered):
        bundle.load(tmp_path / "b")
