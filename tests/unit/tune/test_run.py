"""Whole runs of studies: progress, stops, time, earlier studies, tables, pictures, the page."""

import threading

import pyarrow.parquet as pq
import pytest

from rlaas_ray.errors import NotFound, WorkFailed
from rlaas_ray.tune import analysis, spaces
from rlaas_ray.tune.journal import FILE, Trial

SQUARE = {"x": {"low": -5, "high": 10}, "y": {"low": 0, "high": 15}}
BRANIN = {"function": "studies:branin", "space": SQUARE, "objective": "value", "maximise": False}


@pytest.mark.slow
def test_what_a_study_leaves(execute, folder) -> None:
    result, told = execute(**BRANIN, trials=20)
    table = pq.read_table(result["results"])
    assert table.num_rows == 20
    assert {"trial", "state", "parameter.x", "parameter.y", "objective.value", "seconds"} <= set(table.column_names)
    values = table.column("objective.value").to_pylist()
    best = result["best"]
    assert values[best["trial"]] == best["values"][0] == min(values)
    assert sum(result["importance"].values()) == pytest.approx(1.0)
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "best trial" in page
    for picture in ("history", "parallel", "importance"):
        assert (folder / f"{picture}.png").read_bytes()[:4] == b"\x89PNG"
    shown = [event for kind, event in told.events if kind == "trial"]
    assert {event["trial"] for event in shown} == set(range(20))
    assert told.progress[-1].fraction == 1.0
    assert "best" in str(told.progress[-1].message)


def test_a_stop_leaves_a_study_that_can_be_resumed(execute, folder) -> None:
    class AfterFive(threading.Event):
        def is_set(self) -> bool:
            return (folder / FILE).exists() and (folder / FILE).read_text().count('"told"') >= 5

    result, _ = execute(**BRANIN, trials=12, stop=AfterFive())
    assert (result["state"], result["trials"]) == ("stopped", 5)
    result, told = execute(**BRANIN, trials=12)
    assert (result["state"], result["trials"]) == ("succeeded", 12)
    assert told.events[0] == ("resumed", {"trials": 5, "ended": 5})


def test_time_ends_a_study_with_what_it_has(execute, manual) -> None:
    class Ticking(type(manual)):
        def monotonic_s(self) -> float:
            self.advance(0.25)
            return super().monotonic_s()

    result, told = execute(**{**BRANIN, "search": "random"}, trials=1000, time_limit_s=30, clock=Ticking())
    assert result["state"] == "succeeded"
    assert 3 <= result["trials"] < 200
    assert told.progress[-1].eta_s is not None


def test_no_feasible_trial_is_no_success(execute) -> None:
    with pytest.raises(WorkFailed, match="feasible"):
        execute(**BRANIN, constraints=["value <= -1"], trials=5)


@pytest.mark.slow
def test_an_earlier_study_gives_a_start(execute, tmp_path) -> None:
    first, _ = execute(directory=tmp_path / "tune-first", **BRANIN, trials=40, seed=1)
    for name in ("tpe", "nsga2", "cmaes"):
        body = {**BRANIN, "search": name, "trials": 8, "seed": 9, "warm_start": ["tune-first"]}
        again, told = execute(directory=tmp_path / f"tune-{name}", **body)
        taken = next(event for kind, event in told.events if kind == "warm_start")
        assert taken == {"study": "tune-first", "trials": 40, "taken": 40}
        assert again["best"]["values"][0] < first["best"]["values"][0] + 3


def test_an_earlier_study_that_is_not_there_is_named(execute) -> None:
    with pytest.raises(NotFound, match="tune-nobody"):
        execute(**BRANIN, warm_start=["tune-nobody"])


def a_trial(number, values, **more) -> Trial:
    return Trial(number=number, parameters={"x": float(values[0])}, state="completed", values=list(values), **more)


def test_the_hypervolume_is_the_area_between_the_front_and_the_worst() -> None:
    from rlaas_ray.specs import document
    from rlaas_ray.specs.tune import TuneSpec

    goals = [{"metric": "a", "maximise": True}, {"metric": "b", "maximise": False}]
    spec = document.parse(
        TuneSpec, {"function": "m:f", "space": {"x": {"low": 0, "high": 9}}, "objective": goals, "search": "nsga2"}
    )
    # a is wanted large, b small; the worst corner is (1, 4)
    trials = [a_trial(0, (3, 3)), a_trial(1, (2, 1)), a_trial(2, (1, 4))]
    assert analysis.hypervolume(trials, spec=spec) == pytest.approx(1 * 3 + 1 * 1)
    assert analysis.importance(trials, spec=spec, space=spaces.of(spec)) is None


def test_reports_are_rows_and_mixed_columns_are_text() -> None:
    trial = a_trial(0, (1,), reports=[{"step": 1, "metrics": {"value": 2.0}}, {"step": 2, "metrics": {"other": "a"}}])
    table = analysis.progress([trial])
    assert table.to_pylist() == [
        {"trial": 0, "step": 1, "value": 2.0, "other": None},
        {"trial": 0, "step": 2, "value": None, "other": "a"},
    ]
