"""The journal: what a kill leaves of it, and what it refuses to go on from."""

import json
from pathlib import Path

import pytest

from rlaas_ray.errors import Conflict, InvalidInput, NotFound
from rlaas_ray.tune import journal
from rlaas_ray.tune.journal import FILE, Journal


def written(path: Path) -> None:
    with Journal(path, digest="d") as book:
        book.add("asked", trial=0, parameters={"x": 1.5})
        book.add("reported", trial=0, step=1, metrics={"value": 2.0}, seconds=0.1)
        book.add("told", trial=0, state="completed", values=[3.0], violations=[-1.0], metrics={"value": 3.0}, seeds=[])
        book.add("asked", trial=1, parameters={"x": 2.5})
        book.add("failed", trial=1, error={"detail": "no"}, seconds=0.2)
        book.add("asked", trial=2, parameters={"x": 0.5})


def test_trials_are_read_again_as_they_were(tmp_path: Path) -> None:
    written(tmp_path / FILE)
    with Journal(tmp_path / FILE, digest="d") as book:
        found = journal.trials(book.records)
    assert [trial.state for trial in found.values()] == ["completed", "failed", "running"]
    assert found[0].values == [3.0]
    assert found[0].feasible
    assert (found[0].step, found[1].error, found[2].parameters) == (1, {"detail": "no"}, {"x": 0.5})


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_tail_did_not_happen_and_what_follows_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / FILE
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path, digest="d") as book:
        assert len(book.records) == 6
        book.add("asked", trial=2, parameters={"x": 0.25})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1]["parameters"] == {"x": 0.25}
    assert len(lines) == 7


def test_another_space_is_refused(tmp_path: Path) -> None:
    written(tmp_path / FILE)
    with pytest.raises(Conflict, match="another space") as caught:
        Journal(tmp_path / FILE, digest="e")
    assert "warm_start" in str(caught.value.cure)


def test_a_line_that_is_no_line_names_itself(tmp_path: Path) -> None:
    path = tmp_path / FILE
    written(path)
    path.write_bytes(path.read_bytes() + b"{broken}\n")
    with pytest.raises(InvalidInput, match="line 8"):
        Journal(path, digest="d")


def test_an_earlier_study_is_found_by_its_id_and_its_completed_trials_alone_count(tmp_path: Path) -> None:
    written(tmp_path / "tune-a" / FILE)
    assert [trial.number for trial in journal.earlier("tune-a", runs=tmp_path)] == [0]
    assert len(journal.earlier(str(tmp_path / "tune-a" / FILE), runs=Path("/nowhere"))) == 1
    with pytest.raises(NotFound, match="tune-b"):
        journal.earlier("tune-b", runs=tmp_path)
