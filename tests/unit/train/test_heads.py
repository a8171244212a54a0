"""Training heads against the serving heads (float64) and against autograd."""

import gymnasium
import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.policies import heads as serving
from rlaas_ray.train import analytic, autograd, heads, network
from rlaas_ray.train.columns import Columns

SPACES = {
    "discrete": gymnasium.spaces.Discrete(5),
    "multi-discrete": gymnasium.spaces.MultiDiscrete([2, 3, 4]),
    "box": gymnasium.spaces.Box(-1, 1, (3,), np.float32),
}
SERVING = {
    "discrete": serving.Categorical(n=5),
    "multi-discrete": serving.MultiCategorical(nvec=(2, 3, 4)),
    "box": serving.DiagonalGaussian(entries=3),
}


@pytest.fixture(params=sorted(SPACES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def drawn(head: heads.Head, rows: int, rng: np.random.Generator):
    parameters = rng.normal(0, 0.7, (rows, head.size)).astype(np.float32)
    return parameters, head.draw(parameters, heads.noise(head, (rows,), rng=rng))


def test_log_probabilities_equal_those_that_serving_logs(kind: str) -> None:
    head = heads.head_of(SPACES[kind])
    parameters, actions = drawn(head, 200, np.random.default_rng(0))
    wanted = SERVING[kind].log_prob(parameters, actions.astype(np.float64))
    np.testing.assert_allclose(head.evaluate(parameters, actions).log_probability, wanted, atol=2e-5)


def test_a_categorical_draw_follows_the_softmax() -> None:
    head = heads.Categorical((3,))
    logits = np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32))
    noise = heads.noise(head, (50_000,), rng=np.random.default_rng(0))
    actions = head.draw(np.broadcast_to(logits, (50_000, 3)), noise)
    shares = np.bincount(actions[:, 0], minlength=3) / 50_000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.01)


def test_choices_side_by_side_are_drawn_independently() -> None:
    head = heads.Categorical((2, 3))
    logits = np.log(np.array([0.3, 0.7, 0.2, 0.5, 0.3], dtype=np.float32))
    actions = head.draw(np.tile(logits, (60_000, 1)), heads.noise(head, (60_000,), rng=np.random.default_rng(4)))
    shares = np.bincount(actions[:, 0] * 3 + actions[:, 1], minlength=6) / 60_000
    np.testing.assert_allclose(shares, np.outer([0.3, 0.7], [0.2, 0.5, 0.3]).reshape(-1), atol=0.01)


def test_no_noise_lifts_a_forbidden_choice() -> None:
    class Least(np.random.Generator):
        def standard_exponential(self, size, dtype):
            return np.zeros(size, dtype)  # the rarest draw: infinite Gumbel noise, were there no floor

    head = heads.Categorical((4,))
    noise = heads.noise(head, (2,), rng=Least(np.random.PCG64(0)))
    assert np.isfinite(noise).all()
    allowed = np.array([[True, False, True, False], [False, False, False, True]])
    noise[:, [0, 2]] = -10.0  # and the allowed ones drew badly
    actions = head.draw(heads.masked(np.zeros((2, 4), dtype=np.float32), allowed), noise)
    assert allowed[[0, 1], actions[:, 0]].all()


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "linear"])
def test_analytic_gradients_equal_autograd(kind: str, activation: network.Activation) -> None:
    head = heads.head_of(SPACES[kind])
    shape = network.Shape(
        inputs=6, hidden=(16, 8), activation=activation, outputs=head.size - head.free, free=head.free
    )
    rng = np.random.default_rng(1)
    state = analytic.fresh_state(network.initial(shape, rng=rng, policy_gain=0.5, log_std=-0.3))
    loss = analytic.Loss(clip=0.2, value_coefficient=0.5, entropy_coefficient=0.02, gradient_clip=0.5)
    assert autograd.certify(state, shape=shape, head=head, loss=loss, rng=rng) < 2e-6


def test_both_engines_go_the_same_way_over_twenty_adam_steps(kind: str) -> None:
    head = heads.head_of(SPACES[kind])
    shape = network.Shape(inputs=4, hidden=(16,), activation="tanh", outputs=head.size - head.free, free=head.free)
    loss = analytic.Loss(clip=0.2, value_coefficient=0.5, entropy_coefficient=0.01, gradient_clip=0.5)
    flat = network.initial(shape, rng=np.random.default_rng(2), policy_gain=0.1, log_std=0.0)
    rng = np.random.default_rng(3)
    observations = rng.standard_normal((200, 4), dtype=np.float32)
    parameters = network.Network(flat, shape).distribution(observations)
    actions = head.draw(parameters, heads.noise(head, (200,), rng=rng))
    batch = Columns(
        observations=observations,
        actions=actions,
        log_probabilities=head.evaluate(parameters, actions).log_probability,
        advantages=rng.standard_normal(200, dtype=np.float32),
        targets=rng.standard_normal(200, dtype=np.float32),
    )
    schedule = analytic.Schedule(epochs=5, minibatches=4, share=1.0, learning_rate=1e-3)
    ends = []
    for engine in (analytic.Analytic, autograd.Autograd):
        state = analytic.fresh_state(flat)
        made = engine(state, shape=shape, head=head, loss=loss)
        made.update(batch, schedule=schedule, rng=np.random.default_rng(4))
        assert int(state.step) == 20
        ends.append(state.parameters.numpy().copy())
    assert np.abs(ends[0] - flat).max() > 1e-3
    np.testing.assert_allclose(ends[0], ends[1], atol=2e-6)


def test_minibatches_cut_evenly_and_use_every_row_once() -> None:
    rows = np.arange(977, dtype=np.float32)
    batch = Columns(
        observations=rows[:, None],
        actions=rows.astype(np.int64)[:, None],
        log_probabilities=rows,
        advantages=rows,
        targets=rows,
    )
    schedule = analytic.Schedule(epochs=2, minibatches=4, share=1.0, learning_rate=1.0)
    parts = list(analytic.minibatches(batch, schedule=schedule, rng=np.random.default_rng(0)))
    assert [epoch for epoch, _ in parts] == [0] * 4 + [1] * 4
    assert {len(part) for _, part in parts} == {244, 245}
    np.testing.assert_array_equal(np.sort(np.concatenate([part.targets for _, part in parts[:4]])), rows)
    half = analytic.Schedule(epochs=1, minibatches=2, share=0.5, learning_rate=1.0)
    used = sum(len(part) for _, part in analytic.minibatches(batch, schedule=half, rng=np.random.default_rng(0)))
    assert used == round(977 * 0.5)


@pytest.mark.parametrize(
    "space", [gymnasium.spaces.MultiBinary(3), gymnasium.spaces.Box(0, 255, (3,), np.uint8), gymnasium.spaces.Text(3)]
)
def test_actions_that_cannot_be_trained_are_refused_with_a_cure(space) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        heads.head_of(space)
    assert caught.value.cure
