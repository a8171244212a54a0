"""`python one_study.py FOLDER`: one whole study in a process of its own, to be killed; prints its result."""

import json
import sys
import threading
from pathlib import Path

from rlaas_ray import settings
from rlaas_ray.specs import document
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.tune import run

BODY = {
    "function": "studies:lasting",
    "space": {"x": {"low": -5, "high": 10}, "y": {"low": 0, "high": 15}},
    "objective": "value",
    "maximise": False,
    "trials": 40,
    "parallel": 1,
    "seed": 5,
}


def main(folder: Path) -> None:
    spec = document.parse(TuneSpec, BODY)
    told = Run(
        id="tune-killed",
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
    result = run.execute(
        spec,
        run_id=told.id,
        reporter=TwinReporter(told),
        clock=settings.SystemClock(),
        directory=folder,
        stop=threading.Event(),
    )
    print(json.dumps(result["best"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
