"""A host of many searches on files and a clock of its own: each ends as it would alone, whatever becomes of the others."""

import contextlib
import os
import threading
import types

import numpy as np
import pytest

from rlaas_ray.errors import RlaasError
from rlaas_ray.jobs import host, scheduler
from rlaas_ray.jobs.inbox import Inbox, Order
from rlaas_ray.optimize import search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter

THEIRS = """
import sys
import numpy as np
from pymoo.core.problem import Problem

calls = {"n": 0}

class Sound(Problem):
    def __init__(self):
        super().__init__(n_var=3, n_obj=2, xl=0.0, xu=1.0)
    def _evaluate(self, x, out, *args, **kwargs):
        print("evaluated", len(x))
        out["F"] = np.column_stack([x[:, 0], 1 - x[:, 0] + x[:, 1:].sum(axis=1)])

class Broken(Sound):
    def _evaluate(self, x, out, *args, **kwargs):
        calls["n"] += 1
        if calls["n"] > 2:
            raise ZeroDivisionError("theirs")
        super()._evaluate(x, out)

class Leaving(Sound):
    def _evaluate(self, x, out, *args, **kwargs):
        sys.exit(3)

class Slow(Sound):
    def _evaluate(self, x, out, *args, **kwargs):
        self.clock.advance(0.5)
        super()._evaluate(x, out)
"""


class Ticking(ManualClock):
    """Half a millisecond passes between two looks at it, so that work takes time."""

    def monotonic_s(self) -> float:
        self.advance(0.0005)
        return super().monotonic_s()


class Line(TwinReporter):
    """Claimed at once; over when it has ended."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.refused: RlaasError | None = None
        self.over = self.left = False

    def finish(self, state, **more) -> None:
        super().finish(state, **more)
        self.over = True

    def leave(self) -> None:
        self.left = self.over = True


class Ground:
    """One inbox, its host, and what was told."""

    def __init__(self, folder) -> None:
        self.runs = folder / "runs"
        self.inbox = Inbox(folder / "hosts" / "0")
        self.clock = Ticking()
        self.lines: dict[str, Line] = {}
        self.moved: list[Order] = []
        self.host = self.fresh()

    def fresh(self, **more) -> host.Host:
        """A host on the same inbox, as after a death of the one before."""
        seams = host.Seams(
            open=self.open,
            lookup=lambda order, run_id: {},
            move=self.moved.append,
            runs=self.runs,
            clock=self.clock,
            waited_s=lambda: 0.0,
            elsewhere=lambda spec, problem: contextlib.nullcontext(),
            provenance={"host": "test"},
        )
        self.host = host.Host(self.inbox, seams, rules=more.pop("rules", scheduler.Rules()), **more)
        return self.host

    def open(self, order: Order) -> Line:
        run = Run(
            id=order.run_id,
            kind="optimize",
            name=None,
            spec=order.spec,
            spec_digest="",
            seed=0,
            state="running",
            epoch=1,
            attempt=order.attempt,
            place="here",
            created_us=order.created_us,
        )
        self.lines[order.run_id] = Line(run)
        return self.lines[order.run_id]

    def put(self, name: str, *, problem: str = "zdt1", generations: int = 12, **spec) -> Order:
        (self.runs / name).mkdir(parents=True, exist_ok=True)
        told = {"problem": problem, "algorithm": "nsga2", "population_size": 12, "generations": generations}
        order = Order(
            run_id=name,
            attempt=1,
            key="rlk_secret",
            spec={**told, "stagnation": False, **spec},
            tenant="key:a",
            created_us=self.clock.now_us(),
        )
        self.inbox.put(order)
        return order

    def rounds(self, most: int = 150) -> None:
        for _ in range(most):
            self.clock.advance(0.2)
            self.host.round()
            if self.host.empty and not self.inbox.names():
                return
        pytest.fail(f"still there: {self.inbox.names()}")

    def log(self, name: str) -> str:
        return (self.runs / name / "log.1.txt").read_text()


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module of the user's."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "theirs.py").write_text(THEIRS)
    os.utime(folder / "theirs.py", (1, 1))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "theirs", raising=False)
    return folder / "theirs.py"


def alone(spec: dict) -> dict:
    return search.run(OptimizeSpec(**spec), clock=ManualClock())


def test_each_of_many_ends_with_the_front_that_it_finds_alone(ground) -> None:
    orders = [ground.put(f"optimize-{n}", seed=n, problem=("zdt1", "dtlz2")[n % 2]) for n in range(6)]
    ground.rounds()
    for order in orders:
        final = ground.lines[order.run_id].final
        assert final["state"] == "succeeded"
        assert final["result"]["front"] == alone(order.spec)["front"]
        assert final["result"]["provenance"] == {"host": "test"}
        assert ground.lines[order.run_id].progress[-1].steps == 12
    assert not list(ground.inbox.folder.glob("*.json"))


def test_a_broken_problem_ends_its_own_search_and_no_other(ground, theirs) -> None:
    sound = [ground.put(f"sound-{n}", problem="theirs:Sound", seed=n) for n in range(3)]
    ground.put("broken", problem="theirs:Broken")
    ground.put("leaving", problem="theirs:Leaving")
    ground.put("unknown", problem="no_such_problem")
    ground.rounds()
    assert ground.lines["broken"].final["error"]["reason"] == "ZeroDivisionError"
    assert "theirs.py" in ground.log("broken")  # the traceback is in its own log
    assert ground.lines["leaving"].final["error"]["reason"] == "SystemExit"
    assert ground.lines["unknown"].final["error"]["reason"] == "not-found"
    assert all(ground.lines[one.run_id].final["state"] == "succeeded" for one in sound)
    assert "evaluated 12" in ground.log("sound-0")  # and so is what the problem prints
    assert "evaluated" not in ground.log("unknown")


@pytest.mark.parametrize("how", ["file", "beat"])
def test_a_stop_ends_one_with_its_front_and_touches_no_other(ground, how) -> None:
    first, second = ground.put("first", generations=500), ground.put("second", generations=40)
    for _ in range(4):
        ground.clock.advance(0.2)
        ground.host.round()
    if how == "file":
        ground.inbox.ask_stop(first.name)
    else:
        ground.lines["first"].state = "stopping"
    ground.rounds()
    stopped = ground.lines["first"].final
    assert stopped["state"] == "stopped"
    assert stopped["result"]["front"]
    assert stopped["result"]["generations"] < 500
    assert ground.lines["second"].final["result"]["front"] == alone(second.spec)["front"]


def test_a_search_that_had_not_begun_is_let_go_when_it_is_stopped(ground) -> None:
    ground.fresh(rules=scheduler.Rules(active=1))
    ground.put("a", generations=300)
    waiting = ground.put("b")
    ground.host.round()
    ground.inbox.ask_stop(waiting.name)
    ground.clock.advance(0.2)
    ground.host.round()
    assert ground.inbox.names() == {"a.1"}
    assert "b" not in ground.lines


def test_after_a_death_everything_goes_on_from_its_checkpoint_to_the_same_front(ground) -> None:
    orders = [ground.put(f"optimize-{n}", seed=n, generations=80, checkpoint_every=5) for n in range(3)]
    for _ in range(5):
        ground.clock.advance(1.1)  # a checkpoint each second at most
        ground.host.round()
    told = {name: line.progress[-1].steps for name, line in ground.lines.items()}
    assert all(0 < steps < 80 for steps in told.values())
    ground.fresh()
    ground.rounds()
    for order in orders:
        assert "taken up at generation" in ground.log(order.run_id)
        assert ground.lines[order.run_id].final["result"]["front"] == alone(order.spec)["front"]
        assert ground.lines[order.run_id].final["result"]["generations"] == 80


def test_a_search_that_kills_its_host_again_and_again_fails_and_only_that(ground) -> None:
    bad, good = ground.put("bad"), ground.put("good")
    for _ in range(3):
        ground.host._mark.set(bad.name)  # the process died here
        ground.fresh()
    ground.rounds()
    assert "died 3 times" in ground.lines["bad"].final["error"]["detail"]
    assert ground.lines["good"].final["state"] == "succeeded"
    assert good.died == 0


def test_a_slow_search_is_handed_to_a_process_of_its_own_with_its_state(ground, theirs) -> None:
    import theirs as module

    module.Slow.clock = ground.clock
    slow = ground.put("slow", problem="theirs:Slow", generations=6)
    ground.put("quick")
    ground.rounds()
    assert [one.run_id for one in ground.moved] == ["slow"]
    assert ground.lines["slow"].left
    assert ground.lines["slow"].final is None
    assert ground.lines["quick"].final["state"] == "succeeded"
    ground.inbox.put(slow)
    ground.fresh(alone=True)
    ground.rounds()
    assert "taken up at generation 3" in ground.log("slow")
    assert ground.lines["slow"].final["result"]["generations"] == 6


def test_a_module_that_changed_under_a_host_is_run_by_a_fresh_process(ground, theirs) -> None:
    import theirs as module  # noqa: F401

    later = ground.clock.now_us() / 1e6 + 60
    os.utime(theirs, (later, later))
    ground.put("changed", problem="theirs:Sound")
    ground.rounds()
    assert [one.run_id for one in ground.moved] == ["changed"]
    assert not ground.lines


def test_what_does_not_fit_into_the_memory_is_refused_with_words(ground) -> None:
    ground.fresh(rules=scheduler.Rules(memory_bytes=100_000))
    ground.put("small")
    ground.put("large", population_size=2000)
    ground.rounds()
    assert ground.lines["small"].final["state"] == "succeeded"
    assert "memory" in ground.lines["large"].final["error"]["detail"]


def test_a_host_that_lost_a_run_says_no_more_of_it(ground) -> None:
    ground.put("lost", generations=300)
    ground.host.round()
    ground.lines["lost"].lose()
    ground.rounds()
    assert ground.lines["lost"].final is None


def test_a_search_that_holds_the_core_is_found_and_put_out(ground) -> None:
    order = ground.put("stuck")
    ground.clock.advance(0.2)
    assert ground.host.stuck() is None
    held = types.SimpleNamespace(order=order, line=None)
    with ground.host._one(held):
        ground.clock.advance(11)
        assert ground.host.stuck() == "stuck.1"
        ground.host.put_out("stuck.1")
    assert [one.run_id for one in ground.moved] == ["stuck"]
    assert not ground.inbox.names()


def test_serving_ends_when_told_and_saves_what_it_has(ground) -> None:
    ground.put("long", generations=100_000)
    stop = threading.Event()
    rounds = iter(range(6))
    inner = ground.host.round

    def some(asked):
        if next(rounds, None) is None:
            stop.set()
        ground.clock.advance(0.2)
        return inner(asked)

    ground.host.round = some
    ground.host.serve(stop)
    ground.host.close()
    assert list((ground.runs / "long" / "checkpoints").glob("*.npz"))
    assert ground.inbox.names() == {"long.1"}  # the next host goes on


def test_shares_of_a_hosts_core_are_equal_among_equals(ground) -> None:
    for n in range(6):
        ground.put(f"optimize-{n}", seed=n, generations=200)
    for _ in range(6):
        ground.clock.advance(0.2)
        ground.host.round()
    steps = np.array([line.progress[-1].steps for line in ground.lines.values()], dtype=float)
    assert steps.sum() ** 2 / (len(steps) * (steps**2).sum()) > 0.95
