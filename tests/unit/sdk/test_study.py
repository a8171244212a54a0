"""A study's handle: its trials, and the best of them before there is a result."""

import pytest

from rlaas_ray.sdk import handles


class Answers:
    """A client that answers from a table."""

    def __init__(self, trials, **spec) -> None:
        self.trials = trials
        self.document = {"id": "tune-a", "kind": "tune", "state": "running", "spec": {"objective": "value", **spec}}

    def get(self, path, **params):
        return {"items": self.trials} if path.endswith("/trials") else self.document


def trial(number, state="completed", value=1.0, *, ci95=None, feasible=None):
    return {"trial": number, "state": state, "values": [value], "ci95": ci95, "feasible": feasible}


def best(trials, **spec):
    client = Answers(trials, **spec)
    found = handles.run_of(client, client.document).best
    return None if found is None else found["trial"]


def test_a_run_of_kind_tune_is_a_study() -> None:
    client = Answers([])
    assert isinstance(handles.run_of(client, client.document), handles.Study)
    assert not isinstance(handles.run_of(client, {**client.document, "kind": "train"}), handles.Study)


@pytest.mark.parametrize(
    ("trials", "spec", "wanted"),
    [
        ([], {}, None),
        ([trial(0, state="running"), trial(1, state="stopped", value=9.0)], {}, None),
        ([trial(0, value=1.0), trial(1, value=2.0)], {}, 1),
        ([trial(0, value=1.0), trial(1, value=2.0)], {"maximise": False}, 0),
        ([trial(0, value=5.0, ci95=[0, 9]), trial(1, value=4.0, ci95=[3, 5])], {}, 1),
        ([trial(0, value=5.0, feasible=False), trial(1, value=4.0, feasible=True)], {}, 1),
        ([trial(0, value=5.0), trial(1, value=4.0)], {"objective": [{"metric": "value", "maximise": False}]}, 1),
    ],
)
def test_the_best_so_far_is_completed_feasible_and_sure(trials, spec, wanted) -> None:
    assert best(trials, **spec) == wanted


def test_the_result_says_which_was_best() -> None:
    client = Answers([trial(0)])
    client.document["result"] = {"best": {"trial": 7}}
    assert handles.run_of(client, client.document).best == {"trial": 7}
