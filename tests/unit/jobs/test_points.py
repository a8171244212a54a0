"""What a search leaves beside its result: the variables of every point of its front, anchors among them."""

import json

import numpy as np
import pytest
from pymoo.problems.multi.zdt import ZDT1

from rlaas_ray.control.choices import variables
from rlaas_ray.jobs import searching
from rlaas_ray.optimize import problems, search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter


class Anchored(ZDT1):
    """ZDT1 that knows two points of its front."""

    def anchors(self):
        return {f"at {x}": np.array([x, 0, 0, 0]) for x in (0.25, 0.75)}


@pytest.mark.parametrize("kind", [ZDT1, Anchored])
def test_every_point_of_a_result_has_itsvariables(tmp_path, kind) -> None:
    problem, clock = kind(n_var=4), ManualClock()
    spec = OptimizeSpec(problem="p", algorithm="nsga2", population_size=12, generations=3, seed=1)
    subject = problems.describe(problem, weights=None)
    run = Run(
        id="r",
        kind="optimize",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=1,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )
    given = searching.Given(
        run_id="r",
        attempt=1,
        reporter=TwinReporter(run),
        clock=clock,
        directory=tmp_path,
        checkpoint=None,
        lookup=lambda _: {},
    )
    job = searching.SearchJob(search.Searching(subject, spec, clock=clock), given)
    while not job.done:
        job.step()
    result = json.loads(json.dumps(job.finish()))
    names = [one["name"] for one in result["objectives"]]
    assert len(result["front"]) > 2
    for index, row in enumerate(result["front"]):
        x = variables({"index": index, "objectives": dict(zip(names, row, strict=True))}, result)
        assert problem.evaluate(np.array([x]), return_values_of=["F"])[0] == pytest.approx(np.array(row), abs=0)
