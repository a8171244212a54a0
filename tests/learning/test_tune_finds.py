"""A study finds what makes CartPole learn: the worst learning rates are stopped early, and the winner's policy acts."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs import document
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.tune import journal, run
from rlaas_ray.tune.journal import FILE

pytestmark = [pytest.mark.learning, pytest.mark.slow]

BODY = {
    "train": {"env": "CartPole-v1", "total_timesteps": 20_000, "evaluate": {"episodes": 16}},
    "space": {"learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}},
    "search": "tpe",
    "scheduler": "asha",
    "trials": 10,
    "parallel": 1,
    "seed": 1,
}


def test_a_study_finds_a_learning_rate_that_learns(tmp_path: Path) -> None:
    spec = document.parse(TuneSpec, BODY)
    told = Run(
        id="tune-learning",
        kind="tune",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )
    reporter = TwinReporter(told)
    result = run.execute(
        spec,
        run_id=told.id,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=tmp_path,
        stop=threading.Event(),
    )
    found = journal.trials(journal.read(tmp_path / FILE)[0])
    completed = [trial for trial in found.values() if trial.state == "completed"]
    assert (
        result["best"]["values"][0] >= 80
    )  # a random policy has 22; of this space a third learns nothing in this budget
    assert result["best"]["parameters"]["learning_rate"] > 1e-4
    assert 1 <= len(completed) < 10
    steps = sum(trial.step for trial in found.values())
    assert steps < 0.8 * 9 * len(found)  # early stopping has saved a fifth or more
    assert reporter.versions
    policy = bundle.load(Path(result["bundle"]))
    assert policy.act(np.zeros(4, dtype=np.float32)) in {0, 1}
