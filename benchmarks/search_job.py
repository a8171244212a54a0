"""What a search costs as a job: `5g`, 1,092 variables, population 100, 500 generations, by what is added to the bare loop.

    python -m benchmarks.search_job [--rounds 3] [--api]

CPU seconds of one process with one BLAS thread, arms interleaved, medians. `loop`: ask, evaluate, tell. `search`: with archive,
hypervolume, stop rules. `job`: with metric rows, five fronts a second as JSON, checkpoints each 50 generations, the result.
`--api`: also once through the SDK and an API of its own, in wall seconds from the request to the result; the process of the
search is started within them. Prints a line a round; exits 1 where the job takes more than 15 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from rlaas_ray.cli import quickstart_ground as ground
from rlaas_ray.jobs import searching
from rlaas_ray.optimize import algorithms, evaluation, problems, search
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.reporter import TwinReporter

BAR_S = 15.0
SPEC = OptimizeSpec(problem="5g", algorithm="nsga3", mode="emergency", population_size=100, generations=500)


class Telling(TwinReporter):
    """A reporter that makes the JSON and keeps its length."""

    told = 0

    def event(self, kind, data) -> None:
        self.told += len(json.dumps(data))


def loop() -> None:
    problem = problems.resolve(SPEC).problem
    evolution = algorithms.make("nsga3", problem=problem, population_size=100, seed=0)
    for _ in range(500):
        f, g, h = evaluation.evaluate(problem, evolution.ask())
        evolution.tell(f=f, g=g, h=h)


def searched() -> None:
    search.run(SPEC, clock=SystemClock())


def job() -> None:
    told = {"id": "optimize-1", "kind": "optimize", "name": None, "spec": SPEC.to_json(), "spec_digest": "", "seed": 0}
    with tempfile.TemporaryDirectory() as folder:
        given = searching.Given(
            run_id="optimize-1",
            attempt=1,
            reporter=Telling(Run(**told, state="running", epoch=1, attempt=1, place="here", created_us=0)),
            clock=SystemClock(),
            directory=Path(folder),
            checkpoint=None,
            lookup=lambda run_id: {},
        )
        searching.execute(SPEC, given, stop=threading.Event(), elsewhere=None)


def through_the_api() -> tuple[float, float]:
    """Wall seconds from the request to the result, and those that the search itself tells."""
    with ground.home() as home, ground.fast(home) as client, client:
        began = time.monotonic()
        run = client.optimization.start(
            problem_type="5g", algorithm="nsga3", mode="emergency", population_size=100, generations=500
        )
        result = run.wait_for_completion(timeout_s=600)
        return time.monotonic() - began, float(result.raw["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--api", action="store_true")
    options = parser.parse_args()
    arms = {"loop": loop, "search": searched, "job": job}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(options.rounds):
        for name, arm in arms.items():
            began = time.process_time()
            arm()
            taken[name].append(time.process_time() - began)
        print(number + 1, {name: round(values[-1], 2) for name, values in taken.items()}, flush=True)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    print("median CPU seconds", {name: round(value, 2) for name, value in medians.items()})
    if options.api:
        wall_s, own_s = through_the_api()
        print(f"through the API: {wall_s:.1f} s wall, of which the search {own_s:.1f} s")
    return int(medians["job"] > BAR_S)


if __name__ == "__main__":
    sys.exit(main())
