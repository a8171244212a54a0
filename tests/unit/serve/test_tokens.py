"""A policy with a memory goes on from the token of its last answer; a token that was not given to its sender is refused."""

import base64
import dataclasses

import gymnasium
import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.policies import bundle, decoders, heads, memory, network
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.routes import Routes
from rlaas_ray.serve.state import EndpointState, State
from rlaas_ray.serve.tokens import Tokens, states
from rlaas_ray.specs.routing import Arm

DECISIONS = "/v1/endpoints/cells/decisions"


@pytest.fixture
def remembering(world, table):
    """The world, its champion now one that counts its decisions for each unit: action 10 * (how many before this one)."""
    champion = world.policies["champion"]
    decide = champion.decide
    champion.state_size = 2

    def counting(encoded, *, rng, mask=None, state=None):
        drawn = decide(encoded, rng=rng, mask=mask)
        drawn.action[:] = 10 * state[:, :1]
        drawn.state = state + np.float32(1)
        return drawn

    champion.decide = counting
    world.serve(table(), table(endpoint="default"))
    return world


def ask(world, **more):
    status, body, _ = world.decide(**more)
    assert status == 200, body
    return body


def test_a_unit_goes_on_from_its_token_and_starts_anew_without(remembering):
    first = ask(remembering)
    second = ask(remembering, state_token=first["state_token"])
    third = ask(remembering, state_token=second["state_token"])
    assert [body["action"][0] for body in (first, second, third)] == [0, 10, 20]
    assert ask(remembering)["action"][0] == 0
    assert ask(remembering, state_token=first["state_token"])["action"][0] == 10  # nothing is kept at the server


def test_rows_of_a_batch_keep_apart(remembering):
    first = ask(remembering)
    rows = [{"unit": "cell-7", "observation": [0, 0, 0], "state_token": first["state_token"]}]
    rows += [{"unit": "cell-8", "observation": [0, 0, 0]}]
    status, body, _ = remembering.ask(DECISIONS, {"batch": rows})
    assert status == 200
    assert [row["action"][0] for row in body["batch"]] == [10, 0]
    remembering.policies["champion"].nan_at = 0.5
    odd = [*rows, {"unit": "cell-9", "observation": [0.5, 0, 0], "state_token": None}]
    status, body, _ = remembering.ask(DECISIONS, {"batch": odd})
    assert [row["fallback"] for row in body["batch"]] == [None, None, "error"]
    assert "state_token" not in body["batch"][2]


def flipped(token):
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[12] ^= 1
    return base64.urlsafe_b64encode(raw).decode()


FORGERIES = {
    "one bit": flipped,
    "shorter": lambda token: token[:-4],
    "longer": lambda token: token + "AAAA",
    "no token": lambda _: "x",
    "empty": lambda _: "",
    "not ASCII": lambda _: "\u00e9" * 40,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_token_that_was_changed_is_refused_and_asked_for_again(remembering, forge):
    token = ask(remembering)["state_token"]
    status, problem, _ = remembering.decide(state_token=forge(token))
    assert status == 422
    assert problem["errors"][0]["pointer"] == "/state_token"


def test_a_token_is_of_its_unit_and_endpoint_alone(remembering):
    token = ask(remembering)["state_token"]
    body = {"unit": "cell-8", "observation": [0, 0, 0], "state_token": token}
    assert remembering.ask(DECISIONS, body)[0] == 422
    here = {"unit": "cell-7", "observation": [0, 0, 0], "state_token": token}
    status, problem, _ = remembering.ask("/v1/endpoints/default/decisions", here)
    assert status == 422
    assert "starts anew" in problem["cure"]


def test_another_bundles_memory_starts_anew(remembering, table):
    token = ask(remembering)["state_token"]
    remembering.policies["champion"].digest = "d-champion-2"
    arms = (Arm(name="champion", role="champion", version="ran-ppo:3", digest="d-champion-2"),)
    remembering.policies["champion-2"] = remembering.policies["champion"]
    remembering.serve(dataclasses.replace(table(epoch=8), arms=arms))
    body = ask(remembering, state_token=token)
    assert body["action"][0] == 0
    assert body["state_token"] != token
    assert ask(remembering, state_token=body["state_token"])["action"][0] == 10


def test_whoever_stands_in_leaves_the_token_as_it_was(remembering):
    token = ask(remembering)["state_token"]
    remembering.policies["champion"].raises = True
    body = ask(remembering, state_token=token)
    assert body["fallback"] == "error"
    assert body["state_token"] == token
    remembering.policies["champion"].raises = False
    assert ask(remembering, state_token=token)["action"][0] == 10


def test_the_same_decision_asked_again_gives_the_same_token(remembering):
    first = ask(remembering, decision_id="mine")
    again = ask(remembering, decision_id="mine")
    assert first["state_token"] == again["state_token"]
    status, _, _ = remembering.decide(decision_id="mine", state_token=first["state_token"])
    assert status == 409


def test_paths_without_a_token_do_not_let_a_memory_forget(remembering):
    status, problem, _ = remembering.ask("/predict", {"state": [0, 0, 0]})
    assert status == 422
    assert "/v1/endpoints/default/decisions" in problem["detail"]
    infer = {"inputs": [{"name": "obs", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]}
    assert remembering.ask("/v2/models/cells/infer", infer)[0] == 422


def test_every_server_of_a_home_opens_what_another_sealed():
    rings = [Keyring(mode="loopback") for _ in range(3)]
    for ring, pepper in zip(rings, (b"one home", b"one home", b"another"), strict=True):
        ring.replace((), pepper=pepper)
    here, there, elsewhere = (Tokens(ring) for ring in rings)
    state = np.array([1.5, -2.0], np.float32)
    token = here.seal(state, endpoint="e", unit="u", digest="d")
    held = there.open(token, endpoint="e", unit="u", where="")
    np.testing.assert_array_equal(states([held, None], digest="d", size=2), [state, [0, 0]])
    np.testing.assert_array_equal(states([held], digest="other", size=2), [[0, 0]])
    with pytest.raises(InvalidInput, match="state_token"):
        elsewhere.open(token, endpoint="e", unit="u", where="")
    with pytest.raises(InvalidInput, match="state_token"):
        Tokens(Keyring(mode="loopback")).open(token, endpoint="e", unit="u", where="")


def test_a_shadow_with_a_memory_is_refused(world, table, tmp_path):
    shadow = world.policies["shadow"]
    shadow.state_size = 1
    routes = Routes(
        pool="policies",
        cache=tmp_path,
        load=lambda path: world.policies[path.name],
        publish=lambda state: None,
        keys=world.keys,
        metrics=ServingMetrics(),
        rng=np.random.default_rng(0),
    )
    shadowed = table(arms=[Arm(name="shadow", role="shadow", version="gru:1", digest="d-shadow")])
    bundles = {f"d-{name}": name for name in world.policies}
    routes._warm = lambda policy: None
    with pytest.raises(NotBuilt, match="shadow arm with a memory"):
        routes._endpoint(shadowed, bundles=bundles, held=None)


def recurrent():
    """A GRU for the world's spaces, greedy of nothing: it draws."""
    rng = np.random.default_rng(4)

    def weights(*shape):
        return rng.normal(size=shape).astype(np.float32)

    arrays = {n: weights(*s) for n, s in memory.shapes("gru", inputs=3, outputs=4, steps=1).items()}
    net = network.Network(
        layers=(network.Layer(weight=weights(3, 4), bias=weights(3), activation="linear"),),
        memory=memory.Memory(kind="gru", after=0, arrays=arrays),
    )
    actions = gymnasium.spaces.Discrete(3)
    return bundle.in_memory(
        bundle.BundleContents(
            name="gru",
            created_us=0,
            env="CartPole-v1",
            algorithm="ppo",
            observation_space=gymnasium.spaces.Box(-1, 1, (3,), np.float32),
            action_space=actions,
            net=net,
            head=heads.for_action_space(actions),
            decoder=decoders.for_action_space(actions),
            serving="sample",
            seed=1,
            spec_digest="",
            observations=weights(256, 3),
        )
    )


def test_the_log_of_an_episode_gives_its_propensities_back(world, table):
    policy = recurrent()
    champion = Arm(name="champion", role="champion", version="gru:1", digest=policy.digest)
    alone = dataclasses.replace(table(), arms=(champion,))
    endpoint = EndpointState(table=alone, policies={policy.digest: policy}, width=3)
    world.answerer.state = State(epoch=7, ready=True, endpoints={"cells": endpoint})
    token, told = None, []
    rng = np.random.default_rng(0)
    for step in range(6):
        observation = rng.uniform(-1, 1, 3).astype(np.float32).tolist()
        status, body, _ = world.decide(observation=observation, episode_id="e", step=step, state_token=token)
        assert status == 200, body
        token = body["state_token"]
        told.append((np.array([observation], np.float32), body))
    state = policy.initial_state(1)
    spread = []
    for seen, body in told:
        parameters, state = policy.step(seen, state)
        probabilities = policy.head.probabilities(parameters)[0]
        np.testing.assert_allclose(body["propensity"], probabilities[body["action"]], rtol=1e-6)
        spread.append(np.abs(probabilities - policy.head.probabilities(policy.distribution(seen))[0]).max())
    assert max(spread) > 0.05  # without the memory it would have been another number
