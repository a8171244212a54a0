"""A training in this process, as a run would execute it, told to a twin of the reporter: for tests that look at what was learnt.

Starts no server and no Ray of its own; the directory is the test's.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from rlaas_ray import settings
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

_ID = "train-testing"


def train(spec: TrainSpec, directory: Path) -> tuple[dict[str, Any], TwinReporter]:
    """The run's result, and the reporter with everything that it was told."""
    reporter = TwinReporter(
        Run(
            id=_ID,
            kind="train",
            name=spec.name,
            spec=spec.to_json(),
            spec_digest=spec.digest(),
            seed=spec.seed,
            state="running",
            epoch=1,
            attempt=1,
            place="here",
            created_us=0,
        )
    )
    result = runner.execute(
        spec,
        run_id=_ID,
        attempt=1,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )
    return result, reporter
