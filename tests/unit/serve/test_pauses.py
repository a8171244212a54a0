"""Pauses of the machine that meet whole batches, and arms that cost the same: the real split, turn of the server, and fold."""

import math

import numpy as np
import pytest

from rlaas_ray.evaluation import sequential
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.decide import Ask, Decider
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.shadow import Shadows
from rlaas_ray.serve.state import EndpointState
from rlaas_ray.serve.tokens import Tokens
from rlaas_ray.testing import rows
from rlaas_ray.testing.clock import ManualClock

BATCH, WARM_TURNS, TURNS = 64, 110, 60
COST_S, ROW_S = 0.002, 0.0001  # of one call, and of each row in it
TURN_S = 3 * COST_S + BATCH * ROW_S


class Costly:
    """A policy that takes `factor` times the plain time, and a pause of the machine now and then: as likely as it is long."""

    observation_space = None  # nothing here asks for an example
    state_size = 0
    size = 1

    def __init__(self, *, digest, clock, rng, pauses, factor=1.0):
        self.digest, self.clock, self.rng, self.pauses, self.factor = digest, clock, rng, pauses, factor

    def decide(self, encoded, *, rng, mask=None):
        took_s = self.factor * (COST_S + ROW_S * len(encoded))
        if self.pauses and self.rng.random() < self.pauses * took_s / TURN_S:
            took_s += (0.03, 0.4)[int(self.rng.integers(2))]  # a slow answer, or one that is too late
        self.clock.advance(took_s)
        action = np.zeros((len(encoded), 1))
        return rows_drawn(action)

    def action_to_json(self, action):
        return action.tolist()


class rows_drawn:  # noqa: N801 - what a policy gives back, with as much as the server reads
    def __init__(self, action):
        self.action = self.action_proposed = action
        self.propensity, self.probabilities, self.state = np.ones(len(action)), None, None


class Kept:
    """A decision log that keeps the rows of the last turn."""

    def append(self, _kind, *, endpoint, rows, form):
        self.rows = rows
        return True


def streams(table, *, seed, share, pauses, slower=1.0, turns=TURNS):
    """The largest log e-values of latency and failure over one canary, looked at after each turn."""
    rng = np.random.default_rng(seed)
    clock, log, metrics = ManualClock(), Kept(), ServingMetrics()
    decider = Decider(
        writer=log,
        rng=rng,
        clock=clock,
        metrics=metrics,
        shadows=Shadows(writer=log, rng=rng, clock=clock, metrics=metrics),
        tokens=Tokens(Keyring(mode="loopback")),
    )
    cost = {"clock": clock, "rng": rng, "pauses": pauses}
    policies = {name: Costly(digest=name, **cost) for name in ("d-champion", "d-fallback")}
    policies["d-challenger"] = Costly(digest="d-challenger", factor=slower, **cost)
    fold = sequential.Fold(
        sequential.FoldConfig(
            start_epoch=8,
            champion="champion",
            challenger="challenger",
            reward_low=0.0,
            reward_high=1.0,
            gamma=1.0,
            deadline_us=10**9,
        )
    )
    top = [0.0, 0.0]
    for turn in range(WARM_TURNS + turns):
        warm = turn < WARM_TURNS
        routes = table(epoch=7 if warm else 8, share=0.0 if warm else share, salt=f"s{seed}")
        endpoint = EndpointState(
            table=routes, policies={a.digest: policies[a.digest] for a in routes.arms}, width=1, breakers={}
        )
        asks = [
            Ask(
                unit=f"{turn}-{i}",
                row=np.zeros(1, np.float32),
                episode_id=None,
                step=0,
                decision_id=f"{turn}-{i}",
                given=False,
                deadline_s=clock.monotonic_s() + 0.25,
                log=True,
            )
            for i in range(4 if warm else BATCH)
        ]
        decider.decide(endpoint, asks=asks)
        fold.add(seen(log.rows), rows.rewards([]), now_us=clock.now_us())
        evidence = fold.evidence()
        top = [max(top[0], evidence.log_e_latency), max(top[1], evidence.log_e_failure)]
    return top


def seen(logged):
    """Rows of the server as the log reads them."""

    def column(name, empty):
        return [empty if row[name] is None else row[name] for row in logged]

    return rows.decisions(
        column("decision_id", ""),
        time_us=column("time_us", 0),
        epoch=column("epoch", 0),
        arm=column("arm", ""),
        arm_probability=column("arm_probability", 0.0),
        fallback=column("fallback", ""),
        excluded=column("excluded", ""),
        bundle_digest=column("bundle_digest", ""),
        latency_us=column("latency_us", -1),
    )


LIMIT = math.log(400.0)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_equal_arms_survive_pauses_that_meet_whole_batches(table, share):
    """A pause in every tenth turn, ten times what the machine does: bets on batches would end nearly every one of these."""
    tops = [streams(table, seed=seed, share=share, pauses=0.1) for seed in range(12)]
    assert max(max(pair) for pair in tops) < LIMIT


@pytest.mark.slow
def test_a_challenger_three_times_as_slow_is_found_in_batches_too(table):
    found = [streams(table, seed=seed, share=0.5, pauses=0.01, slower=3.0, turns=80)[0] >= LIMIT for seed in range(4)]
    assert all(found)
