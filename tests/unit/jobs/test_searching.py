"""A search as a job: who hears of it and how often, what lies on disk, how it is taken up again, what it begins from."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.jobs import checkpoints, searching
from rlaas_ray.optimize import problems
from rlaas_ray.specs.optimize import OptimizeSpec, WarmStart
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter

SPEC = OptimizeSpec(
    problem="pymoo.problems.multi.zdt:ZDT1",
    problem_config={"n_var": 6},
    population_size=12,
    generations=20,
    checkpoint_every=5,
    seed=2,
)


def run(attempt: int = 1) -> Run:
    told = {"id": "optimize-1", "kind": "optimize", "name": None, "spec": SPEC.to_json(), "spec_digest": ""}
    return Run(**told, seed=2, state="running", epoch=1, attempt=attempt, place="here", created_us=0)


def given(directory: Path, *, attempt: int = 1, lookup=None, checkpoint: str | None = None) -> searching.Given:
    return searching.Given(
        run_id="optimize-1",
        attempt=attempt,
        reporter=TwinReporter(run(attempt)),
        clock=ManualClock(),
        directory=directory,
        checkpoint=checkpoint,
        lookup=lookup or (lambda run_id: {}),
    )


def stepped(spec: OptimizeSpec, told: searching.Given, *, generation_s: float) -> searching.SearchJob:
    job = searching.begin(spec, told)
    while not job.done:
        job.step()
        told.clock.advance(generation_s)
    return job


def execute(spec: OptimizeSpec, told: searching.Given, *, stop: threading.Event | None = None, elsewhere=None) -> dict:
    return searching.execute(spec, told, stop=stop or threading.Event(), elsewhere=elsewhere)


def same(result: dict) -> dict:
    passing = {"seconds", "summary", "checkpoint_uri", "points_uri", "growth"}
    return {name: value for name, value in result.items() if name not in passing}


def test_fronts_come_five_times_a_second_at_most_and_metrics_of_every_generation(tmp_path) -> None:
    told = given(tmp_path)
    stepped(SPEC, told, generation_s=0.06)
    fronts = [data["generation"] for kind, data in told.reporter.events if kind == "front"]
    assert fronts == [1, 5, 9, 13, 17, 20]  # each 0.24 s, and the last
    assert [row["step"] for row in told.reporter.rows] == list(range(1, 21))
    assert [row["hypervolume"] for row in told.reporter.rows[:4]] == [None] * 4
    assert told.reporter.progress[-1].fraction == 1.0
    assert told.reporter.progress[1].eta_s == pytest.approx(15 * 0.24 / 5)


def test_of_generations_that_are_very_many_the_metrics_are_thinned_and_the_newest_is_there(tmp_path) -> None:
    told = given(tmp_path)
    stepped(SPEC.model_copy(update={"generations": 150}), told, generation_s=0.001)
    steps = [row["step"] for row in told.reporter.rows]
    assert steps[0] == 1
    assert steps[-1] == 150
    assert len(steps) <= 1 + searching.ROWS_TOLD


def test_checkpoints_come_each_n_generations_and_two_are_kept(tmp_path) -> None:
    told = given(tmp_path)
    job = stepped(SPEC, told, generation_s=0.1)
    names = [path.stem for path in checkpoints.found(tmp_path / searching.FOLDER)]
    assert names == ["generation-000000015", "generation-000000020"]
    result = job.finish()
    assert Path(result["checkpoint_uri"]).stem == "generation-000000020"
    assert (result["state"], result["ended_by"]) == ("succeeded", "generations")
    assert not list(tmp_path.glob("**/.*"))


def test_a_slow_search_saves_itself_each_half_minute(tmp_path) -> None:
    spec = SPEC.model_copy(update={"checkpoint_every": 1000, "generations": 7})
    stepped(spec, given(tmp_path), generation_s=16.0)
    names = [path.stem for path in checkpoints.found(tmp_path / searching.FOLDER)]
    assert names == ["generation-000000005", "generation-000000007"]  # each 32 s


def test_a_stop_ends_after_the_generation_with_a_valid_front_and_the_next_attempt_goes_on(tmp_path) -> None:
    whole = execute(SPEC, given(tmp_path / "whole"))
    told = given(tmp_path / "stopped")
    told.reporter.state = "stopping"
    result = execute(SPEC, told)
    assert (result["state"], result["generations"], result["stopped"]) == ("stopped", 1, True)
    assert result["chosen"]["objectives"]
    again = execute(SPEC, given(tmp_path / "stopped", attempt=2))
    assert same(again) == same(whole)


def test_an_event_that_is_set_stops_before_the_next_generation(tmp_path) -> None:
    stop = threading.Event()
    job = searching.begin(SPEC, given(tmp_path))
    job.step()
    stop.set()
    job.save()
    result = execute(SPEC, given(tmp_path, attempt=2), stop=stop)
    assert (result["state"], result["generations"]) == ("stopped", 1)


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_it_taken(tmp_path) -> None:
    whole = execute(SPEC, given(tmp_path / "whole"))
    folder = tmp_path / "cut"
    stepped(SPEC.model_copy(update={"generations": 10}), given(folder), generation_s=1.0)
    newest = checkpoints.found(folder / searching.FOLDER)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    told = given(folder, attempt=2)
    job = searching.begin(SPEC, told)
    assert job.searching.generation == 5
    assert newest.name in told.reporter.events[0][1]["words"]
    assert same(execute(SPEC, given(folder, attempt=2))) == same(whole)


def test_a_checkpoint_that_the_api_names_is_taken_where_the_runs_folder_is_empty(tmp_path) -> None:
    path = stepped(SPEC.model_copy(update={"generations": 6}), given(tmp_path / "a"), generation_s=0.0).save()
    job = searching.begin(SPEC, given(tmp_path / "b", attempt=2, checkpoint=str(path)))
    assert job.searching.generation == 6


def test_a_warm_start_takes_the_earlier_runs_points_rows_or_its_chosen_one(tmp_path) -> None:
    subject = problems.resolve(SPEC)
    earlier = execute(SPEC, given(tmp_path / "earlier"))
    by_run = SPEC.model_copy(update={"warm_start": WarmStart(run="optimize-0")})

    def rows(spec: OptimizeSpec, document: dict) -> np.ndarray:
        found = searching.warm_rows(subject, spec, lookup=lambda run_id: document)
        assert found is not None
        return found

    points = rows(by_run, {"checkpoint_uri": earlier["checkpoint_uri"], "result": earlier})
    assert points.shape == (6, 6)  # half of the population
    gone = {"checkpoint_uri": "/gone", "result": earlier}
    assert rows(by_run, gone).tolist() == [earlier["chosen"]["x"]]
    by_rows = SPEC.model_copy(update={"warm_start": WarmStart(rows=[[0.5] * 6])})
    assert rows(by_rows, {}).tolist() == [[0.5] * 6]
    assert searching.warm_rows(subject, SPEC, lookup=lambda run_id: {}) is None


@pytest.mark.parametrize("way", ["checkpoint", "result", "nothing", "unknown", "rows"])
def test_a_warm_start_from_what_does_not_fit_is_refused(tmp_path, way: str) -> None:
    other = SPEC.model_copy(update={"problem_config": {"n_var": 7}})
    earlier = execute(other, given(tmp_path / "earlier"))
    documents = {
        "checkpoint": {"checkpoint_uri": earlier["checkpoint_uri"]},
        "result": {"result": earlier},
        "nothing": {"state": "running"},
        "rows": {},
    }

    def lookup(run_id: str) -> dict:
        if way == "unknown":
            raise NotFound("no such run", given=run_id)
        return documents[way]

    warm = WarmStart(rows=[[0.5] * 7]) if way == "rows" else WarmStart(run="optimize-0")
    with pytest.raises(NotFound if way == "unknown" else InvalidInput):
        searching.begin(SPEC.model_copy(update={"warm_start": warm}), given(tmp_path / "new", lookup=lookup))


@pytest.mark.parametrize(
    ("evaluate", "row_s", "measured", "left", "moves"),
    [
        ("here", 10.0, 3, 1e6, False),
        ("ray", None, 0, 1e6, True),
        ("ray", 1e-6, 1, 1e6, False),  # it is there already
        ("auto", 2e-3, 3, 1e5, True),
        ("auto", 2e-3, 2, 1e5, False),  # three batches show the price
        ("auto", 0.9e-3, 3, 1e9, False),  # cheap
        ("auto", 2e-3, 3, 9_000.0, False),  # 18 s are left: bringing Ray up costs more
        ("auto", 2e-3, 3, float("inf"), True),
        ("auto", None, 0, 1e6, False),
    ],
)
def test_when_evaluation_moves_to_ray(evaluate, row_s, measured, left, moves) -> None:
    spec = SPEC.model_copy(update={"evaluate": evaluate})
    assert searching.wanted_elsewhere(spec, row_s=row_s, measured=measured, left=left) is moves


def test_rows_left_follow_the_budget_that_ends_first(tmp_path) -> None:
    job = searching.begin(SPEC, given(tmp_path))
    job.step()
    assert searching.rows_left(job.searching) == 19 * 12
    fewer = SPEC.model_copy(update={"evaluations": 100})
    job = searching.begin(fewer, given(tmp_path / "fewer"))
    job.step()
    assert searching.rows_left(job.searching) == 88
    open_ended = SPEC.model_copy(update={"generations": None, "effort": "thorough"})
    assert searching.rows_left(searching.begin(open_ended, given(tmp_path / "open")).searching) == float("inf")


def test_rows_are_evaluated_elsewhere_where_the_spec_says_so_and_it_is_closed_in_the_end(tmp_path) -> None:
    seen: list[object] = []

    class Elsewhere:
        def __init__(self, spec, problem) -> None:
            self.problem = problem

        def __enter__(self):
            seen.append("open")
            return self.evaluate

        def __exit__(self, *exc: object) -> None:
            seen.append("closed")

        def evaluate(self, x):
            seen.append(len(x))
            return self.problem.evaluate(x, return_values_of=["F"]), np.empty((len(x), 0)), np.empty((len(x), 0))

    spec = SPEC.model_copy(update={"evaluate": "ray", "generations": 3})
    result = execute(spec, given(tmp_path), elsewhere=Elsewhere)
    assert seen == ["open", 12, 12, 12, "closed"]
    here = execute(spec.model_copy(update={"evaluate": "here"}), given(tmp_path / "here"))
    assert result["front"] == here["front"]
