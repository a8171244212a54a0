"""`rlaas choose`: what its options ask for, and what is shown of the answer."""

import json

import pytest
from click.testing import CliRunner

from rlaas_ray.cli import choose, server
from rlaas_ray.errors import InvalidInput, RlaasError, UnknownField
from rlaas_ray.sdk import handles, results

PARTIES = "rule: maximin\nparties:\n- {name: a, weights: {cost: 1}}\n- {name: b, weights: {gain: 1}, floor: 0.2}\n"
MADE = {
    "run": "optimize-1",
    "seq": 7,
    "reason": "Point 2 by nash.",
    "chosen": {"index": 2, "objectives": {"cost": 1.5, "gain": 3.0}, "x": None},
    "parties": [{"name": "a", "utility": 0.4, "regret": 0.6, "would_take": 0}],
    "alternatives": [3],
    "rule": "nash",
}


def test_options_become_the_fields_of_a_choice(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text(PARTIES)
    assert choose.asked(weights="cost=2, gain=1e-1", method="topsis", sensitivity=True) == {
        "method": "topsis",
        "weights": {"cost": 2.0, "gain": 0.1},
        "sensitivity": True,
    }
    assert choose.asked(targets="cost=-3", sensitivity=False) == {"targets": {"cost": -3.0}}
    told = choose.asked(parties=str(tmp_path / "p.yaml"), rule="nash", sensitivity=False)
    assert (told["rule"], [party["name"] for party in told["parties"]]) == ("nash", ["a", "b"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weights": "cost"}, "NAME=NUMBER"),
        ({"weights": "cost=much"}, "cost=much"),
        ({"weights": "cost=1,cost=2"}, "each name once"),
        ({"targets": "=3"}, "--target"),
        ({"method": "kne"}, "'knee'"),
        ({"rule": "nash"}, "parties beside a rule"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anybody_is_asked(wrong, words) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose.asked(**wrong, sensitivity=False)


def test_a_misspelt_field_of_a_party_is_named(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text(PARTIES.replace("floor", "flor"))
    with pytest.raises(UnknownField) as caught:
        choose.asked(parties=str(tmp_path / "p.yaml"), sensitivity=False)
    assert "'floor'" in (caught.value.cure or "")


class Search(handles.Search):
    """A search that answers as it was told."""

    def __init__(self, made) -> None:
        self.id, self.made, self.told = "optimize-1", made, None

    def choose(self, **spec):
        self.told = spec
        return results.build(results.Choice, self.made)

    def choices(self):
        return [{**self.made, "time_us": 0}]


class Client:
    """A client with one search, or with none."""

    def __init__(self, search) -> None:
        self.search, self.optimization, self.runs = search, self, self

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None: ...

    def get(self, run_id):
        assert run_id == self.search.id
        return self.search

    def list(self, *, limit):
        failed = {"id": "optimize-2", "state": "failed"}  # newer, and without a front
        return [failed, {"id": self.search.id, "state": "succeeded"}] if self.search else []


def run(monkeypatch, search, *words):
    monkeypatch.setattr(server, "client", lambda: Client(search))
    return CliRunner().invoke(choose.choose, list(words), standalone_mode=False)


def test_the_reason_comes_first_and_the_newest_search_is_taken_without_a_run(monkeypatch) -> None:
    search = Search(MADE)
    done = run(monkeypatch, search, "--method", "knee")
    assert done.return_value == 0
    assert done.stdout.splitlines()[0] == "Point 2 by nash."
    assert "a: 40.0% of its best; alone it would take point 0" in done.stdout
    assert "within 2 %: 3" in done.stdout
    assert search.told == {"method": "knee"}


def test_json_is_the_answer_whole(monkeypatch) -> None:
    assert json.loads(run(monkeypatch, Search(MADE), "optimize-1", "--json").stdout) == MADE
    listed = run(monkeypatch, Search(MADE), "--list", "--json").stdout
    assert json.loads(listed)["items"][0]["seq"] == 7


def test_the_list_has_a_line_for_each_choice(monkeypatch) -> None:
    lines = run(monkeypatch, Search(MADE), "optimize-1", "--list").stdout.splitlines()
    assert lines[0].split() == ["SEQ", "MADE", "BY", "POINT", "REASON"]
    assert "nash" in lines[1]


def test_demands_that_cannot_be_met_end_with_3(monkeypatch) -> None:
    refused = {**MADE, "chosen": None, "parties": [{**MADE["parties"][0], "utility": None}], "alternatives": []}
    done = run(monkeypatch, Search(refused), "optimize-1")
    assert done.return_value == 3
    assert done.stdout == "Point 2 by nash.\n"


def test_without_any_search_there_is_a_cure(monkeypatch) -> None:
    done = run(monkeypatch, None)
    assert isinstance(done.exception, RlaasError)
    assert "rlaas optimize" in done.exception.cure


def test_sensitivity_is_a_table_of_intervals(monkeypatch) -> None:
    interval = {"weight": 0.5, "low": 0.25, "high": 0.75, "below": 1, "above": None}
    found = {"reason": "Nearest flip: lower it.", "intervals": {"cost": interval}}
    done = run(monkeypatch, Search({**MADE, "sensitivity": found}), "optimize-1", "--sensitivity")
    assert done.stdout.splitlines()[-3:] == [
        "Nearest flip: lower it.",
        "OBJECTIVE  WEIGHT  FROM  TO",
        "cost       0.5     0.25  0.75",
    ]
