"""Events of a run: the newest fronts are kept, everything else is, whichever way it came; a slow reader sees a few fronts."""

import pytest

from rlaas_ray.api import events as streamed
from rlaas_ray.specs.runs import Run, RunEvent
from rlaas_ray.store import database, reports, runs, schema

RUN = Run(
    id="optimize-1",
    kind="optimize",
    name=None,
    spec={},
    spec_digest="",
    seed=0,
    state="running",
    epoch=1,
    attempt=1,
    place="here",
    created_us=0,
)


@pytest.fixture
def db(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PASSING_KEPT", 10)
    made = database.Database(f"sqlite:///{tmp_path}/rlaas.db")
    schema.migrate(made)
    with made.write() as tx:
        runs.insert(tx, RUN)
    yield made
    made.close()


@pytest.mark.parametrize("way", ["one", "many"])
def test_old_fronts_go_and_what_else_happened_stays(db, way: str) -> None:
    kinds = ["warning" if number % 10 == 5 else "front" for number in range(1, 41)]
    with db.write() as tx:
        for seq, kind in enumerate(kinds, start=1):
            event = {"kind": kind, "data": {"number": seq}, "time_us": seq}
            if way == "one":
                runs.add_event(tx, RUN, **event, source_seq=seq)
            else:
                reports.add_events(tx, [reports.Told(run_id=RUN.id, attempt=1, events=[{**event, "seq": seq}])])
    with db.read() as tx:
        kept = runs.events(tx, RUN.id, after=0, limit=100)
        newest = runs.newest(tx, RUN.id, kind="front")
        assert runs.newest(tx, RUN.id, kind="note") is None
    assert [event.seq for event in kept if event.kind == "warning"] == [5, 15, 25, 35]
    assert [event.seq for event in kept if event.kind == "front"] == [31, 32, 33, 34, 36, 37, 38, 39, 40]
    assert newest is not None
    assert newest.data == {"number": 40}


def test_a_reader_that_fell_behind_sees_a_few_fronts_evenly_and_the_last() -> None:
    events = [
        RunEvent(seq=seq, attempt=1, time_us=0, kind="state" if seq == 7 else "front", data={}) for seq in range(1, 32)
    ]
    shown = [event.seq for event in streamed.caught_up(events)]
    assert shown == [6, 7, 13, 19, 25, 31]
    few = events[:4]
    assert streamed.caught_up(few) == few
    assert streamed.caught_up([]) == []
