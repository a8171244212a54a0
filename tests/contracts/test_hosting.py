"""The place that hands searches to a host: kept by files of this user alone, started once, started again when it died."""

import contextlib
import dataclasses
import stat
import sys
import time

import pytest

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.jobs import hosting, processes
from rlaas_ray.jobs.inbox import Inbox
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.places import TwinPlace

# Stands for a host: takes what lies there, writes what it was given, ends what is to be stopped.
PROGRAM = """
import os, pathlib, sys, time
from rlaas_ray.jobs.inbox import Inbox
inbox = Inbox(pathlib.Path(sys.argv[1]))
held = inbox.hold()
assert held is not None
(inbox.folder / "arguments").write_text(repr((sys.argv, os.environ.get("RLAAS_API_KEY"), os.environ["RLAAS_URL"])))
seen = set()
while True:
    for name in inbox.names() - seen:
        seen.add(name)
        order = inbox.get(name)
        (pathlib.Path(os.environ["RUNS"]) / order.run_id / f"log.{order.attempt}.txt").write_text(f"took {name} {order.key}\\n")
    for name in inbox.stops():
        inbox.remove(name)
    time.sleep(0.01)
"""


def run(attempt: int = 1, *, name: str = "optimize-aaaaaaaaaa", kind: str = "optimize", **spec) -> Run:
    return Run(
        id=name,
        kind=kind,
        name=None,
        spec={"problem": "zdt1", **spec},
        spec_digest="d",
        seed=0,
        state="queued",
        epoch=1,
        attempt=attempt,
        place="here",
        created_us=1,
        owner_key="key:one",
    )


@pytest.fixture
def place(tmp_path):
    launch = hosting.Launcher(
        folder=tmp_path / "hosts",
        url="http://api",
        environment={"RUNS": str(tmp_path / "runs"), "RLAAS_DATABASE_URL": "sqlite:///never"},
        program=(sys.executable, "-c", PROGRAM),
    )
    made = hosting.HostPlace(launch=launch, runs=tmp_path / "runs", other=TwinPlace(), clock=SystemClock(), cores=2)
    yield made
    for child in made._children.values():
        child.kill()
        child.wait()


def until(what) -> None:
    for _ in range(500):
        with contextlib.suppress(NotFound, FileNotFoundError):
            if what():
                return
        time.sleep(0.02)
    pytest.fail("it never came to be")


def test_a_search_is_handed_over_by_a_file_of_this_user_alone_and_its_key_is_on_no_command_line(
    place, tmp_path
) -> None:
    ref = place.submit(run(), key="rlk_secret")
    assert ref == "host:optimize-aaaaaaaaaa:1"
    until(lambda: list(place.logs(ref, run_id=run().id, follow=False)) == ["took optimize-aaaaaaaaaa.1 rlk_secret"])
    folder = tmp_path / "hosts" / "0"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.json")} == {0o600}
    child = place._children["0"]
    assert "rlk_" not in processes.command_line(child.pid)
    assert (folder / "arguments").read_text() == repr(((["-c", str(folder)]), "", "http://api"))
    order = Inbox(folder).get("optimize-aaaaaaaaaa.1")
    assert (order.tenant, order.spec, order.created_us) == ("key:one", {"problem": "zdt1"}, 1)


def test_a_hundred_searches_have_one_host_and_each_is_alive_until_it_is_stopped(place) -> None:
    refs = [place.submit(run(name=f"optimize-{n:03d}"), key="k") for n in range(100)]
    assert len(place._children) == 1
    assert all(place.alive(ref) for ref in refs)
    place.stop(refs[7], grace_s=10)
    assert not place.alive(refs[7])
    assert all(place.alive(ref) for ref in refs if ref != refs[7])
    place.stop(refs[7], grace_s=10)  # a second stop finds nothing and is no fault


def test_submitting_the_same_attempt_twice_hands_it_over_once_also_after_its_end(place) -> None:
    ref = place.submit(run(), key="k")
    assert place.submit(run(), key="k") == ref
    second = place.submit(run(2), key="k")
    assert second != ref
    place.stop(ref, grace_s=10)
    assert place.submit(run(), key="k") == ref
    assert not place.alive(ref)
    assert place.alive(second)


def test_a_host_that_was_killed_is_started_again_and_finds_its_work(place, monkeypatch) -> None:
    monkeypatch.setattr(hosting, "_AGAIN_S", 0.0)
    ref = place.submit(run(), key="k")
    until(lambda: Inbox(place._launch.folder / "0").lived_in())
    first = place._children["0"]
    first.kill()
    first.wait()
    assert place.alive(ref)  # the attempt is in hand, whoever has it
    place.tend()
    assert place._children["0"].pid != first.pid
    place.stop(ref, grace_s=10)
    assert not place.alive(ref)


def test_a_host_that_cannot_begin_is_not_started_again_at_once(place) -> None:
    place._launch = dataclasses.replace(place._launch, program=(sys.executable, "-c", "raise SystemExit(1)"))
    place.submit(run(), key="k")
    first = place._children["0"]
    first.wait()
    for _ in range(3):
        place.tend()
    assert place._children.get("0") in {None, first}


def test_no_host_is_started_for_an_empty_folder(place) -> None:
    Inbox(place._launch.folder / "0")
    place.tend()
    assert not place._children


def test_what_nobody_takes_is_gone_after_the_grace(place) -> None:
    place._launch = dataclasses.replace(place._launch, program=(sys.executable, "-c", "import time; time.sleep(60)"))
    ref = place.submit(run(), key="k")
    place.stop(ref, grace_s=0.2)
    assert not place.alive(ref)


@pytest.mark.parametrize("other", [{"kind": "train"}, {"kind": "evaluate"}, {"evaluate": "ray"}])
def test_other_kinds_and_searches_that_wait_for_ray_go_on_as_before(place, other) -> None:
    ref = place.submit(run(**other), key="k")
    assert place._other.submitted == [(run().id, 1)]
    assert place.alive(ref)
    assert next(place.logs(ref, run_id=run().id, follow=False)).startswith("attempt 1")
    place.stop(ref, grace_s=1)
    assert place._other.stopped == [ref]
    assert not place._children


def test_searches_spread_over_as_many_hosts_as_there_are_cores_to_spare(place, monkeypatch) -> None:
    place._cores = 8
    monkeypatch.setattr(hosting, "_trainings", lambda: 4)  # so many run beside them
    monkeypatch.setattr(place, "_keep", lambda inbox: None)
    for n in range(9):
        place.submit(run(name=f"optimize-{n}"), key="k")
    held = {inbox.folder.name: len(inbox.names()) for inbox in place._inboxes()}
    assert held == {"0": 3, "1": 3, "2": 3}


def test_references_and_logs_that_never_were(place) -> None:
    with pytest.raises(NotFound):
        place.logs("host:optimize-zzzzzzzzzz:1", run_id="optimize-zzzzzzzzzz", follow=False)
    with pytest.raises(InvalidInput):
        place.alive("host:optimize")
    assert not place.alive("host:optimize-zzzzzzzzzz:1")
