"""The chosen point of a policy search is a version that serves what the front says of it."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.envs import registry
from rlaas_ray.jobs import searching
from rlaas_ray.policies import bundle, spaces
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter

ENV = "rlaas/RanControl-tiny-v1"
SPEC = OptimizeSpec(
    problem="policy_search", problem_config={"env": ENV, "episodes": 1}, population_size=40, generations=15, seed=1
)


@pytest.mark.slow  # the certificate of a bundle needs torch
def test_the_chosen_policy_is_registered_and_does_what_the_front_says(tmp_path: Path) -> None:
    about = {"id": "optimize-1", "kind": "optimize", "name": None, "spec": SPEC.to_json(), "spec_digest": ""}
    run = Run(**about, seed=1, state="running", epoch=1, attempt=1, place="here", created_us=0)
    reporter = TwinReporter(run)
    told = searching.Given(
        run_id="optimize-1",
        attempt=1,
        reporter=reporter,
        clock=ManualClock(),
        directory=tmp_path,
        checkpoint=None,
        lookup=lambda run_id: {},
    )
    result = searching.execute(SPEC, told, stop=threading.Event(), elsewhere=None)
    assert [one["name"] for one in reporter.versions] == ["rancontrol-tiny-v1-search"]
    manifest = bundle.verify(Path(result["bundle"]))
    assert (manifest.digest, manifest.serving, manifest.env) == (result["digest"], "greedy", ENV)
    policy = bundle.load(Path(result["bundle"]))
    world = registry.make_vector(ENV, num_envs=1, seed=9)
    seen, _ = world.reset(seed=9)  # without chance: every world is the same
    total = np.zeros(4)
    for _ in range(8):
        drawn = policy.decide(policy.encode(seen), rng=np.random.default_rng(0))
        seen, _, _, _, info = world.step(spaces.actions(policy.action_space, drawn.action))
        total += info["objectives"][0]
    assert total / 8 == pytest.approx(list(result["chosen"]["objectives"].values()), rel=1e-6)
