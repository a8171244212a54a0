"""A bundle comes back as the policy that was written, in one piece or not at all; what cannot be a policy is never written."""

import dataclasses
import json

import numpy as np
import pytest
from gymnasium import spaces as gs

from rlaas_ray.errors import AlreadyExists, BadObservation, EngineFailed, InvalidInput, NotFound, Refused
from rlaas_ray.policies import bundle, decoders, heads, inspection, loaded
from rlaas_ray.policies import view as views
from rlaas_ray.policies.network import Layer, Network, Normaliser

RNG = np.random.default_rng(12)


def layer(inputs: int, outputs: int, activation: str = "linear") -> Layer:
    return Layer(
        weight=RNG.normal(size=(outputs, inputs)).astype(np.float32),
        bias=RNG.normal(size=outputs).astype(np.float32),
        activation=activation,
    )


def contents(**changes: object) -> bundle.BundleContents:
    """A policy for CartPole's spaces."""
    actions = changes.get("action_space", gs.Discrete(2))
    base = bundle.BundleContents(
        name="cart",
        created_us=1_700_000_000_000_000,
        env="CartPole-v1",
        algorithm="ppo",
        observation_space=gs.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=gs.Discrete(2),
        net=Network(
            layers=(layer(4, 8, "tanh"), layer(8, 2)),
            normaliser=Normaliser(mean=np.zeros(4, np.float32), std=np.ones(4, np.float32), clip=10.0),
        ),
        head=heads.for_action_space(actions),
        decoder=decoders.for_action_space(actions),
        serving="sample",
        seed=7,
        spec_digest="ab" * 32,
        observations=RNG.normal(size=(300, 4)).astype(np.float32),
    )
    return dataclasses.replace(base, **changes)


def factored() -> bundle.BundleContents:
    """Three units with two targets each, one shared network: the shape of the RAN policy, small."""
    flat, units, entries = 7, 3, 6
    program = views.ViewProgram(
        index=np.array([[0, 1, 7], [2, 3, 7], [4, 5, 8]]),
        matrix=RNG.normal(size=(flat, 2)).astype(np.float32),
        offset=np.zeros(2, np.float32),
    )
    decoder = decoders.TargetDelta(
        **{name: np.ones(entries) for name in ("gain", "scale", "high", "obs_scale")},
        **{name: np.zeros(entries) for name in ("base", "obs_offset")},
        low=-np.ones(entries),
        obs_index=np.arange(entries),
    )
    return contents(
        observation_space=gs.Box(-np.inf, np.inf, (flat,), np.float32),
        action_space=gs.Box(-1, 1, (units, 2), np.float32),
        net=Network(
            layers=(layer(3, 8, "tanh"), layer(8, 2)), view=program, log_std=np.full(2, -1.5, np.float32), parts=2
        ),
        head=heads.DiagonalGaussian(entries=entries),
        decoder=decoder,
        observations=RNG.normal(size=(256, flat)).astype(np.float32),
    )


@pytest.mark.parametrize("make", [contents, factored])
def test_a_bundle_comes_back_as_the_policy_that_was_written(tmp_path, make):
    made = make()
    digest = bundle.write(tmp_path / "b", made)
    manifest = bundle.verify(tmp_path / "b")
    assert manifest.digest == digest
    before = bundle.in_memory(made)
    for engine in (None, "numpy", "onnx", "torch"):
        policy = bundle.load(tmp_path / "b", engine=engine)
        assert policy.digest == digest
        assert policy.observation_space == made.observation_space
        assert policy.action_space == made.action_space
        x = made.observations[:5]
        np.testing.assert_allclose(policy.distribution(x), before.distribution(x), atol=1e-5)
        first, second = (p.decide(x, rng=np.random.default_rng(1)) for p in (policy, before))
        np.testing.assert_allclose(first.action, second.action, atol=1e-4)
        np.testing.assert_allclose(first.propensity, second.propensity, rtol=1e-3)


def test_the_same_contents_give_the_same_digest_and_a_changed_weight_another(tmp_path):
    made = contents()
    first, second = bundle.write(tmp_path / "a", made), bundle.write(tmp_path / "b", made)
    changed = dataclasses.replace(made, net=Network(layers=(layer(4, 8, "tanh"), layer(8, 2))))
    assert first == second != bundle.write(tmp_path / "c", changed)


def test_the_propensity_is_that_of_the_proposed_action(tmp_path):
    policy = bundle.in_memory(factored())
    x = factored().observations[:50]
    drawn = policy.decide(x, rng=np.random.default_rng(2))
    log_prob = policy.head.log_prob(policy.distribution(x), drawn.action_proposed)
    np.testing.assert_allclose(np.log(drawn.propensity), log_prob, atol=1e-9)
    assert (np.abs(drawn.action) <= 1).all()
    assert not np.array_equal(drawn.action, drawn.action_proposed)


def test_a_greedy_bundle_acts_by_its_mode_with_propensity_one(tmp_path):
    bundle.write(tmp_path / "b", contents(serving="greedy"))
    policy = bundle.load(tmp_path / "b")
    x = contents().observations[:20]
    drawn = policy.decide(x, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.action[:, 0], policy.distribution(x).argmax(axis=1))
    assert (drawn.propensity == 1).all()
    assert drawn.probabilities.sum() == 20


def test_act_takes_a_raw_observation_and_gives_what_the_env_takes(tmp_path):
    policy = bundle.in_memory(contents())
    assert policy.act([0.1, 0.0, 0.0, 0.0], unit="cell-7") in (0, 1)
    assert bundle.in_memory(factored()).act(np.zeros(7)).shape == (3, 2)
    with pytest.raises(BadObservation):
        policy.act([0.1])


def test_a_masked_action_is_never_taken():
    space = gs.Dict({"observations": gs.Box(-9, 9, (4,), np.float32), "action_mask": gs.MultiBinary(2)})
    policy = bundle.in_memory(contents(observation_space=space))
    row = {"observations": np.zeros(4, np.float32), "action_mask": np.array([0, 1], np.int8)}
    assert [int(policy.act(row)) for _ in range(20)] == [1] * 20


def test_numbers_that_are_not_finite_are_an_engine_failure():
    policy = bundle.in_memory(contents())
    with pytest.raises(EngineFailed, match="not finite"):
        policy.decide(np.full((1, 4), np.nan, np.float32), rng=np.random.default_rng(0))


def test_a_bundle_is_files_that_anyone_can_read(tmp_path):
    bundle.write(tmp_path / "b", contents(evaluation={"return_mean": 400.0, "episodes": 8, "seed": 1}))
    assert {p.name for p in (tmp_path / "b").iterdir()} == set(inspection.LIMITS)
    card = (tmp_path / "b" / "card.md").read_text()
    assert "CartPole-v1" in card
    assert "400.0" in card
    proof = json.loads((tmp_path / "b" / "certificate.json").read_text())
    assert proof["engines"] == ["numpy", "onnx", "torch"]
    assert proof["n"] == 300


def test_a_folder_that_is_there_is_not_overwritten_and_nothing_is_left_behind(tmp_path):
    bundle.write(tmp_path / "b", contents())
    before = (tmp_path / "b" / "manifest.json").read_bytes()
    with pytest.raises(AlreadyExists):
        bundle.write(tmp_path / "b", contents())
    assert (tmp_path / "b" / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"observations": np.zeros((255, 4), np.float32)},
        {"observations": np.zeros((300, 5), np.float32)},
        {"observations": np.zeros((300, 4))},
        {"observations": np.full((300, 4), np.nan, np.float32)},
        {"head": heads.Categorical(n=3)},
        {"observation_space": gs.Box(-1, 1, (5,), np.float32)},
        {"action_space": gs.MultiDiscrete([2, 2])},
    ],
)
def test_contents_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, changes):
    with pytest.raises(InvalidInput):
        bundle.write(tmp_path / "b", dataclasses.replace(contents(), **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_target_decoder_that_reads_past_the_observation_is_refused(tmp_path):
    made = factored()
    bad = dataclasses.replace(made.decoder, obs_index=np.full(6, 7))
    with pytest.raises(InvalidInput, match="target decoder"):
        bundle.write(tmp_path / "b", dataclasses.replace(made, decoder=bad))


def test_an_engine_that_the_certificate_left_out_cannot_be_asked_for(tmp_path, monkeypatch):
    from rlaas_ray.policies.engines import choice

    monkeypatch.setattr(choice, "NAMES", ("numpy", "onnx"))
    bundle.write(tmp_path / "b", contents())
    monkeypatch.undo()
    with pytest.raises(Refused, match="torch is not certified"):
        bundle.load(tmp_path / "b", engine="torch")


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        bundle.load(tmp_path / "nothing")


def test_packing_is_reproducible_and_unpacking_gives_the_bundle_back(tmp_path):
    digest = bundle.write(tmp_path / "b", factored())
    assert bundle.pack(tmp_path / "b", tmp_path / "one.tar.zst") == digest
    assert bundle.unpack(tmp_path / "one.tar.zst", tmp_path / "c") == digest
    bundle.pack(tmp_path / "c", tmp_path / "two.tar.zst")
    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()
    assert bundle.verify(tmp_path / "one.tar.zst").digest == digest
    policy = bundle.load(tmp_path / "one.tar.zst", engine="numpy")
    assert isinstance(policy, loaded.LoadedPolicy)
    with pytest.raises(AlreadyExists):
        bundle.unpack(tmp_path / "one.tar.zst", tmp_path / "c")
