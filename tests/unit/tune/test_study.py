"""Studies over cheap functions, in this process: what is asked, told, stopped, failed, and gone on from after a kill."""

import numpy as np
import pytest
from conftest import records, written

from rlaas_ray.errors import Conflict, WorkFailed
from rlaas_ray.tune import ranking
from rlaas_ray.tune.journal import FILE, Journal

SQUARE = {"x": {"low": -5, "high": 10}, "y": {"low": 0, "high": 15}}
BRANIN = {"function": "studies:branin", "space": SQUARE, "objective": "value", "maximise": False}
LINE = {"function": "studies:curve", "space": {"x": {"low": 0, "high": 1}}, "objective": "value", "search": "random"}
ONE = {"space": {"x": {"low": 0, "high": 1}}, "objective": "value", "search": "random"}


def parameters(trials):
    return [trial.parameters for trial in trials]


def lines(directory):
    return (directory / FILE).read_bytes().splitlines(keepends=True)


def cut(source, target, *, after: int):
    """A journal as a kill leaves it."""
    target.mkdir()
    (target / FILE).write_bytes(b"".join(lines(source)[:after]))
    return target


@pytest.mark.parametrize("name", ["grid", "random", "tpe", "cmaes", "nsga2"])
def test_the_same_seed_gives_the_same_study_and_another_seed_another(search, tmp_path, name) -> None:
    space = {k: {**v, "step": 2.5} for k, v in SQUARE.items()} if name == "grid" else SQUARE
    body = {**BRANIN, "space": space, "search": name, "trials": 12}
    one, again, other = (search(directory=tmp_path / to, seed=s, **body) for s, to in ((1, "a"), (1, "b"), (2, "c")))
    assert parameters(one) == parameters(again)
    assert (parameters(one) == parameters(other)) == (name == "grid")


@pytest.mark.parametrize("name", ["tpe", "cmaes", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_search_that_learns_finds_the_minimum_better_than_chance(search, tmp_path, name) -> None:
    """Branin's minimum is 0.398; the same number of trials for each."""
    seeds, trials = (range(1), 30) if name == "gp" else (range(5), 60)

    def best(kind):
        body = {**BRANIN, "search": kind, "trials": trials}
        return [
            min(t.values[0] for t in search(directory=tmp_path / f"{kind}-{seed}", seed=seed, **body)) for seed in seeds
        ]

    learnt = np.median(best(name))
    assert learnt < np.median(best("random"))
    assert learnt < 1.0


def test_the_front_keeps_its_constraint_and_covers_what_it_may(search) -> None:
    """Both distances fall together outside [0, 2], and x >= 1 leaves [1, 2]."""
    found = search(
        function="studies:two_goals",
        space={"x": {"low": -3, "high": 5}},
        search="nsga2",
        trials=120,
        objective=[{"metric": "near_zero", "maximise": False}, {"metric": "near_two", "maximise": False}],
        constraints=["x >= 1"],
        seed=3,
    )
    front = [trial.parameters["x"] for trial in ranking.front(found, maximise=[False, False])]
    assert len(front) >= 10
    assert min(front) >= 1
    assert min(front) < 1.1
    assert 1.9 < max(front) < 2.2


def test_halving_stops_the_lines_that_rise_least(search) -> None:
    found = search(**LINE, scheduler={"kind": "asha", "grace": 1, "eta": 3}, trials=27, reports=9, seed=1)
    stopped = [trial for trial in found if trial.state == "stopped"]
    assert len(stopped) >= 14
    assert all(trial.step in {1, 3} for trial in stopped)
    done = [trial.parameters["x"] for trial in found if trial.state == "completed"]
    # the order of lines never changes: the best is never stopped
    assert max(trial.parameters["x"] for trial in found) in done


def test_the_winner_over_seeds_is_the_surer_one(search) -> None:
    found = search(
        function="studies:seeded",
        space={"kind": {"grid": ["a", "b"]}},
        search="grid",
        seeds=3,
        objective="value",
    )
    best = ranking.best(found, maximise=[True])
    assert best is not None
    assert best.parameters == {"kind": "b"}
    assert best.values == [pytest.approx(0.9)]
    assert ranking.bound(best, maximise=True) == pytest.approx(0.8)  # three values: the bootstrap's end is the least


def test_a_trial_that_fails_is_a_result_and_says_why(search) -> None:
    found = search(**ONE, function="studies:picky", trials=20)
    failed = [trial for trial in found if trial.state == "failed"]
    assert {trial.parameters["x"] < 0.5 for trial in failed} == {True}
    assert failed[0].error["detail"] == "too small"
    assert "picky" in failed[0].error["traceback"]


@pytest.mark.parametrize(
    ("function", "words"), [("broken", "never works"), ("silent", "metric 'value'"), ("nowhere", "does not import")]
)
def test_what_every_trial_runs_into_ends_the_study(search, folder, function, words) -> None:
    with pytest.raises(WorkFailed, match=words):
        search(**ONE, function=f"studies:{function}", trials=20)
    assert len(written(folder)) == 3


@pytest.mark.parametrize("told", [3, 17, 39])
@pytest.mark.parametrize("name", ["tpe", "nsga2", "cmaes"])
def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(search, tmp_path, name, told) -> None:
    body = {**BRANIN, "search": name, "trials": 40, "seed": 5}
    whole = search(directory=tmp_path / "whole", **body)
    killed = cut(tmp_path / "whole", tmp_path / "killed", after=2 + 2 * told)  # one more asked for
    again = search(directory=killed, **body)
    assert [(t.parameters, t.values) for t in again] == [(t.parameters, t.values) for t in whole]
    assert sum(record.kind == "told" for record in records(killed)) == 40


def test_early_stopping_goes_on_as_if_it_had_not_been_killed(search, tmp_path) -> None:
    body = {**LINE, "scheduler": "asha", "trials": 12, "seed": 2}
    whole = search(directory=tmp_path / "whole", **body)
    for after in range(2, len(lines(tmp_path / "whole")), 4):
        killed = cut(tmp_path / "whole", tmp_path / f"killed-{after}", after=after)
        again = search(directory=killed, **body)
        assert [(t.parameters, t.state, t.values) for t in again] == [(t.parameters, t.state, t.values) for t in whole]


def test_a_resumed_study_may_have_more_trials_and_no_other_space(search) -> None:
    assert len(search(**BRANIN, trials=5)) == 5
    assert len(search(**BRANIN, trials=8)) == 8
    with pytest.raises(Conflict, match="another space"):
        search(**{**BRANIN, "space": {**SQUARE, "y": {"low": 0, "high": 14}}}, trials=8)


def test_a_population_passes_on_what_the_best_have_reached(search, tmp_path, folder) -> None:
    body = {
        "function": "studies:resumed",
        "space": {"rate": {"low": 0.1, "high": 2.0}},
        "objective": "value",
        "scheduler": {"kind": "pbt", "interval": 1},
        "reports": 6,
        "trials": 8,
        "seed": 4,
    }
    found = search(**body)
    moves = [dict(record.data) for record in records(folder) if record.kind == "moved"]
    assert {move["round"] for move in moves} == {1, 2, 3, 4, 5}
    first = [record.data["parameters"]["rate"] for record in records(folder) if record.kind == "asked"]
    # alone, a member reaches six times its rate; copies of the best that grow by a fifth reach more
    assert max(trial.values[0] for trial in found) > 6 * max(first)
    assert {trial.state for trial in found} == {"completed"}
    killed = cut(folder, tmp_path / "killed", after=9)  # all asked for, nothing done
    search(directory=killed, **body)
    assert [dict(record.data) for record in records(killed) if record.kind == "moved"] == moves


def test_a_journal_has_one_writer(tmp_path) -> None:
    with Journal(tmp_path / FILE, digest="d"), pytest.raises(Conflict, match="open in another process"):
        Journal(tmp_path / FILE, digest="d")
