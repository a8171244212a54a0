"""The table under a study's bar: what runs, then the best; and what `--space` may say."""

import io

import pytest
from rich.console import Console

from rlaas_ray.cli import trials
from rlaas_ray.cli.tune import parsed
from rlaas_ray.errors import InvalidInput


def trial(number, state, value, **parameters):
    return {
        "trial": number,
        "state": state,
        "parameters": parameters,
        "step": 3,
        "steps_total": 9,
        "values": None if value is None else [value],
        "ci95": None,
        "seconds": 61.0,
    }


def test_what_runs_comes_first_then_the_best() -> None:
    given = [trial(0, "completed", 1.0), trial(1, "running", None), trial(2, "stopped", 3.0), trial(3, "failed", None)]
    assert [t["trial"] for t in trials.chosen(given, maximise=True)] == [1, 2, 0]
    assert [t["trial"] for t in trials.chosen(given, maximise=False)] == [1, 0, 2]


def test_the_best_are_cut_off_and_not_what_runs() -> None:
    given = [*(trial(n, "completed", float(n)) for n in range(50)), *(trial(n, "running", None) for n in range(50, 55))]
    shown = trials.chosen(given, maximise=True)
    assert len(shown) == trials.ROWS
    assert [t["trial"] for t in shown[5:]] == [49, 48, 47, 46, 45, 44, 43]


def test_a_row_says_step_value_time_and_parameters() -> None:
    page = io.StringIO()
    given = [trial(7, "running", 12.3456789, learning_rate=0.00123, kind="a")]
    Console(file=page, width=120).print(trials.drawn(given, maximise=True))
    head, row = page.getvalue().splitlines()[:2]
    assert head.split() == ["trial", "state", "step", "value", "95", "%", "time", "learning_rate", "kind"]
    assert row.split() == ["7", "running", "3/9", "12.346", "1m01s", "0.00123", "a"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("learning_rate=1e-5..1e-2:log", {"low": "1e-5", "high": "1e-2", "log": True}),
        ("epochs=2..16", {"low": "2", "high": "16"}),
        ("minibatch_size=64,128", {"choice": [64, 128]}),
        ("network.activation=tanh,relu", {"choice": ["tanh", "relu"]}),
    ],
)
def test_a_parameter_on_the_command_line(text, wanted) -> None:
    assert parsed(text) == (text.partition("=")[0], wanted)


@pytest.mark.parametrize("text", ["x", "x=", "=1..2", "x=1..2:lin"])
def test_a_parameter_that_says_nothing_is_refused(text) -> None:
    with pytest.raises(InvalidInput, match="--space"):
        parsed(text)
