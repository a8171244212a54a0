"""The search for a front: one generation per step, an archive beside it, a state that resumes bit for bit.

`Searching` is one search as an object; jobs/searching.py runs it as a job, the scheduler interleaves many. `run` and `search`
are the plain loops over it. Deterministic by seed. Never touches a file, a clock of its own or the network.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.optimize import algorithms, choice, evaluation, front, problems, stopping, variables, volume
from rlaas_ray.optimize import state as states
from rlaas_ray.optimize.evolution import Evolution
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.choose import Method
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.seams import Clock

# Rows (n, d) -> objectives (n, m), inequalities (n, p), equalities (n, q); a row of F that is not finite has failed.
Evaluate = Callable[[F64], tuple[F64, F64, F64]]

MOST_FAILED = 0.2  # of all rows; beyond it the search fails instead of searching what is left
MOST_STARTED = 0.5  # of the first population may come from elsewhere
EQUAL = 1e-4  # an equality counts as kept within this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """What a search reports after each generation; `values` (front_size, m) are the points so far, in natural units.

    `hypervolume` is None until the reference is fixed; `of` and `eta_s` are None where no rule tells how long it will be.
    `clipped` points lie beyond the reference and count nothing. Corners are in natural units, (m,) each.
    """

    objectives: tuple[problems.Objective, ...]
    number: int
    of: int | None
    evaluations: int
    failed: int
    front_size: int
    hypervolume: float | None
    feasible_share: float
    clipped: int
    elapsed_s: float
    eta_s: float | None
    fraction: float
    values: F64
    ideal: F64 | None
    nadir: F64 | None
    reference: F64 | None

    def event(self, *, job: str, limit: int = front.SHOWN_AT_MOST) -> dict[str, Any]:
        """The JSON of this generation's event; the front has at most `limit` points, the least crowded."""
        return {
            "job": job,
            "objectives": [{"name": n, "unit": u, "direction": d} for n, u, d in self.objectives],
            "generation": self.number,
            "evaluations": self.evaluations,
            "failed": self.failed,
            "elapsed_s": self.elapsed_s,
            "hypervolume": self.hypervolume,
            "reference": _listed(self.reference),
            "clipped": self.clipped,
            "front_size": self.front_size,
            "feasible_share": self.feasible_share,
            "ideal": _listed(self.ideal),
            "nadir": _listed(self.nadir),
            "front": self.values[front.thinned(self.values, limit=limit)].tolist(),
        }


Progress = Callable[[Generation], None]


class Searching:
    """One search. `step()` does a generation until `done`; `ask` and `tell` are its halves, for evaluation elsewhere.

    `evaluate` defaults to the problem in this process. `start` (k, d) are rows to begin from: clipped to the bounds, at most
    half of the population. Raises InvalidInput for names it does not know and for rows of another width.
    """

    def __init__(
        self,
        subject: problems.Subject,
        spec: OptimizeSpec,
        *,
        clock: Clock,
        evaluate: Evaluate | None = None,
        start: F64 | None = None,
    ) -> None:
        self._prepare(subject, spec, clock=clock, evaluate=evaluate)
        self._evolution: Evolution = algorithms.make(
            self.algorithm,
            problem=subject.problem,
            population_size=self.effort.population_size,
            seed=spec.seed,
            start=first_rows(subject, given=start, population_size=self.effort.population_size),
            options=self._options(),
        )

    def _options(self) -> dict[str, Any]:
        """The algorithm's options; RVEA must know beforehand how many generations there will be."""
        known = {"generations": self.effort.rules.generations} if self.algorithm == "rvea" else {}
        return {**known, **self.spec.algorithm_config}

    def _prepare(
        self, subject: problems.Subject, spec: OptimizeSpec, *, clock: Clock, evaluate: Evaluate | None
    ) -> None:
        self.subject, self.spec, self.effort = subject, spec, stopping.effort(spec)
        problem = subject.problem
        self.algorithm = algorithms.automatic(problem) if spec.algorithm == "auto" else spec.algorithm
        self._evaluate: Evaluate = evaluate or (lambda x: evaluation.evaluate(problem, x))
        self._clock, self._began_s, self._before_s = clock, clock.monotonic_s(), 0.0
        self._archive = front.Archive(variables=int(problem.n_var), objectives=int(problem.n_obj))
        self._volume = volume.Volume(subject, reference=spec.reference)
        self._corners: deque[stopping.Corners] = deque(maxlen=stopping.WINDOW + 1)
        self._feasible: int = 0
        self._rows: int = 0
        self._asked: F64 | None = None
        self.row_s: float | None = None  # the least that a row of a batch has taken, evaluated by `step`
        self.failed: int = 0
        self.ended_by: stopping.Reason | None = None

    @property
    def generation(self) -> int:
        """Generations done."""
        return len(self._volume.trace)

    @property
    def evaluations(self) -> int:
        """Rows evaluated."""
        return self._rows

    @property
    def done(self) -> bool:
        """Whether a rule has ended it, or somebody."""
        return self.ended_by is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds that it has run, over all attempts."""
        return self._before_s + self._clock.monotonic_s() - self._began_s

    def stop(self) -> None:
        """End it here; what it has found stays valid."""
        self.ended_by = self.ended_by or "stop"

    def step(self) -> Generation:
        """One generation, evaluated by the search's own evaluator."""
        x = self.ask()
        began_s = self._clock.monotonic_s()
        f, g, h = self._evaluate(x)
        row_s = (self._clock.monotonic_s() - began_s) / max(len(x), 1)
        self.row_s = row_s if self.row_s is None else min(self.row_s, row_s)
        return self.tell(f=f, g=g, h=h)

    def evaluate_with(self, evaluate: Evaluate) -> None:
        """Evaluate by this from the next generation on."""
        self._evaluate = evaluate

    def ask(self) -> F64:
        """(k, d) rows to evaluate; asked again before they are told, the same rows."""
        if self._asked is None:
            self._asked = self._evolution.ask()
        return self._asked

    def tell(self, *, f: F64, g: F64, h: F64) -> Generation:
        """The values of the rows that were asked for; ends the generation. Raises WorkFailed where too many rows failed."""
        x, self._asked = self.ask(), None
        good = np.isfinite(f).all(axis=1)
        # Beyond 1e300 no choice can measure a point: it may steer the search, as a penalty does, and is on no front.
        shown = (np.abs(f) <= choice.HUGE).all(axis=1)
        kept = shown & (g <= 0).all(axis=1) & (np.abs(h) <= EQUAL).all(axis=1)
        self._rows, self.failed = self._rows + len(f), self.failed + int((~good).sum())
        self._check_failed()
        self._evolution.tell(f=f, g=g, h=h)
        if not len(x):
            self.ended_by = self.ended_by or "converged"
        changed = self._archive.add(x[kept], f[kept])
        self._volume.tell(self._archive.f, changed=changed)
        self._feasible = int(kept.sum())
        if len(self._archive.f):
            corners = stopping.Corners(ideal=self._archive.f.min(axis=0), nadir=self._archive.f.max(axis=0))
            self._corners.append(corners)
        self.ended_by = self.ended_by or stopping.reason(
            self.effort.rules,
            evaluations=self._rows,
            elapsed_s=self.elapsed_s,
            trace=self._volume.trace,
            corners=self._corners,
        )
        return self._told(share=self._feasible / max(len(f), 1))

    def _told(self, *, share: float) -> Generation:
        elapsed_s, rules, sign = self.elapsed_s, self.effort.rules, self.subject.sign
        fraction, eta_s = stopping.left(
            rules, generations=self.generation, evaluations=self._rows, elapsed_s=elapsed_s, done=self.done
        )
        now = self._corners[-1] if self._corners else None
        reference = self._volume.reference
        return Generation(
            objectives=self.subject.objectives,
            number=self.generation,
            of=rules.generations,
            evaluations=self._rows,
            failed=self.failed,
            front_size=len(self._archive.f),
            hypervolume=self._volume.latest,
            feasible_share=share,
            clipped=self._volume.clipped(self._archive.f),
            elapsed_s=elapsed_s,
            eta_s=eta_s,
            fraction=fraction,
            values=self._archive.f * sign,
            ideal=now.ideal * sign if now else None,
            nadir=now.nadir * sign if now else None,
            reference=reference * sign if reference is not None else None,
        )

    def _check_failed(self) -> None:
        if self._rows >= self.effort.population_size and self.failed > MOST_FAILED * self._rows:
            raise WorkFailed(
                f"{self.failed:,} of {self._rows:,} evaluations failed",
                given=f"{self.failed / self._rows:.0%}",
                expected=f"at most {MOST_FAILED:.0%}: beyond it a front says more about the failures than about the problem",
                cure="Evaluate one row by hand: objectives must be finite; give slow rows a longer row_timeout_s.",
            )

    def result(self) -> front.Front:
        """The front so far, with its chosen point. Raises WorkFailed where no feasible point was found."""
        seconds = self.elapsed_s
        anchors, archive = self._with_anchors()
        if not len(archive.f):
            raise WorkFailed(
                "the search found no feasible point",
                given=f"{self._rows} evaluations",
                expected="at least one point that keeps every constraint, with objectives within 1e300",
                cure="Give more generations, a larger population, or looser constraints.",
            )
        sign, weight = self.subject.sign, self.subject.weight
        measured = self._volume.final(archive.f)
        order = np.argsort(archive.f[:, 0] * sign[0], kind="stable")
        x, values = archive.x[order], archive.f[order] * sign
        shown = front.thinned(values, limit=front.SHOWN_AT_MOST)
        method: Method = self.effort.choose if len(weight) > 1 else "topsis"
        picked = choice.choose(
            values[shown],
            method=method,
            minimise=self.subject.minimise,
            weights=None if method == "knee" else weight,
            session=choice.Session(labels=[(name, unit) for name, unit, _ in self.subject.objectives]),
        )
        chosen = int(shown[picked.index])
        return front.Front(
            objectives=self.subject.objectives,
            x=x,
            values=values,
            shown=shown,
            score=float(picked.score[picked.index]),
            weight=weight / weight.sum(),
            chosen=chosen,
            method=method,
            reason=picked.reason,
            named=variables.of(self.subject.problem).named(x[chosen]),
            hypervolume=measured.value,
            hypervolume_raw=measured.raw,
            trace=measured.trace,
            box=(measured.ideal * sign, measured.nadir * sign),
            anchors={name: f * sign for name, f in anchors.items()},
            seed=self.spec.seed,
            generations=self.generation,
            evaluations=self._rows + len(anchors),
            failed=self.failed,
            seconds=seconds,
            ended_by=self.ended_by or "stop",
            ended_because=stopping.words(
                self.ended_by or "stop",
                rules=self.effort.rules,
                generations=self.generation,
                evaluations=self._rows,
                elapsed_s=seconds,
            ),
            algorithm=self.algorithm,
            variables_digest=states.variables_digest(self.subject.problem),
        )

    def _with_anchors(self) -> tuple[dict[str, F64], front.Archive]:
        """The anchors' objectives, name -> (m,), and an archive that has them too; the search's own stays as it is."""
        problem = self.subject.problem
        archive = front.Archive(variables=int(problem.n_var), objectives=int(problem.n_obj))
        archive.load(self._archive.x, self._archive.f)
        if not self.subject.anchors:
            return {}, archive
        x = np.stack(list(self.subject.anchors.values()))
        f, g, h = evaluation.evaluate(problem, x)
        kept = (g <= 0).all(axis=1) & (np.abs(h) <= EQUAL).all(axis=1)
        archive.add(x[kept], f[kept])
        return dict(zip(self.subject.anchors, f, strict=True)), archive

    def save(self) -> bytes:
        """All that goes on bit for bit: an npz without pickle. Rows that were asked and not told are asked again."""
        header, arrays = self._evolution.state()
        counted = {
            "rows": self._rows,
            "failed": self.failed,
            "elapsed_s": self.elapsed_s,
            "ended_by": self.ended_by,
            "volume": self._volume.header(),
            "evolution": header,
        }
        return states.pack(
            {**counted, **_about(self.subject, self.spec)},
            {
                **{f"evolution.{name}": array for name, array in arrays.items()},
                **{f"volume.{name}": array for name, array in self._volume.arrays().items()},
                "archive.x": self._archive.x,
                "archive.f": self._archive.f,
                "corners": _stacked(self._corners, objectives=self._archive.f.shape[1]),
            },
        )

    @classmethod
    def restore(
        cls,
        data: bytes,
        *,
        subject: problems.Subject,
        spec: OptimizeSpec,
        clock: Clock,
        evaluate: Evaluate | None = None,
    ) -> Self:
        """The search as `save` left it; an ended one is open again where the spec's rules let it go on.

        Raises InvalidInput where the bytes are none, or of other variables, objectives or another algorithm.
        """
        header, arrays = states.unpack(data)
        states.check(header, _about(subject, spec))
        made = cls.__new__(cls)
        made._prepare(subject, spec, clock=clock, evaluate=evaluate)  # noqa: SLF001 - this very class
        made._load(header, arrays)  # noqa: SLF001
        return made

    def _load(self, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        own = {name.removeprefix("evolution."): a for name, a in arrays.items() if name.startswith("evolution.")}
        self._evolution = algorithms.restore(header["evolution"], own, problem=self.subject.problem)
        self._volume.load(header["volume"], {n.removeprefix("volume."): a for n, a in arrays.items()})
        self._archive.load(arrays["archive.x"], arrays["archive.f"])
        self._corners.extend(stopping.Corners(ideal=one[0], nadir=one[1]) for one in arrays["corners"])
        self._rows, self.failed = int(header["rows"]), int(header["failed"])
        self._before_s = float(header["elapsed_s"])
        self.ended_by = stopping.reason(
            self.effort.rules,
            evaluations=self._rows,
            elapsed_s=self._before_s,
            trace=self._volume.trace,
            corners=self._corners,
        )


def run(
    spec: OptimizeSpec, *, progress: Progress | None = None, stop: threading.Event | None = None, clock: Clock
) -> dict[str, Any]:
    """Search what the spec names; the result document of the run (front, chosen, hypervolume, summary)."""
    return document(spec, _looped(Searching(problems.resolve(spec), spec, clock=clock), progress=progress, stop=stop))


def document(spec: OptimizeSpec, found: front.Front) -> dict[str, Any]:
    """The result document of a search."""
    result = found.to_json()
    # `best_solution` is the SDK's word for the chosen point.
    return {"problem": spec.problem, "mode": spec.mode, **result, "best_solution": result["chosen"]}


def search(
    subject: problems.Subject,
    *,
    population_size: int,
    generations: int,
    seed: int,
    clock: Clock,
    algorithm: str = "nsga3",
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> front.Front:
    """The front after `generations`, or after the generation in which `stop` was set; a stopped front is valid."""
    spec = OptimizeSpec(
        problem=type(subject.problem).__name__,
        algorithm=algorithm,
        population_size=population_size,
        generations=generations,
        seed=seed,
    )
    return _looped(Searching(subject, spec, clock=clock), progress=progress, stop=stop)


def _looped(searching: Searching, *, progress: Progress | None, stop: threading.Event | None) -> front.Front:
    while not searching.done:
        if stop is not None and stop.is_set():
            searching.stop()
            break
        told = searching.step()
        if progress is not None:
            progress(told)
    return searching.result()


def first_rows(subject: problems.Subject, *, given: F64 | None, population_size: int) -> F64 | None:
    """Rows that the first population begins with: the anchors where the problem asks for them, then those given.

    (k, d) or None; the algorithm brings them to the nearest values that there are. Those given fill half of the population at
    most.
    """
    problem = subject.problem
    rows = [np.stack(list(subject.anchors.values()))] if subject.warm_start and subject.anchors else []
    if given is not None:
        if given.ndim != 2 or given.shape[1] != problem.n_var or not np.isfinite(given).all():
            raise InvalidInput(
                "rows of a warm start",
                given=given.shape,
                expected=f"finite numbers (k, {problem.n_var}), one for each variable",
                pointer="/warm_start",
            )
        rows.append(given[: int(MOST_STARTED * population_size)])
    return np.concatenate(rows)[:population_size] if rows else None


def started_at_most(spec: OptimizeSpec) -> int:
    """Rows of another search that the first population has room for."""
    return int(MOST_STARTED * stopping.effort(spec).population_size)


def _about(subject: problems.Subject, spec: OptimizeSpec) -> dict[str, Any]:
    """What a state must agree on with the search that takes it up."""
    return {
        "variables": states.variables_digest(subject.problem),
        "objectives": [list(one) for one in subject.objectives],
        "algorithm": spec.algorithm,
        "seed": spec.seed,
    }


def _stacked(corners: deque[stopping.Corners], *, objectives: int) -> F64:
    rows = [np.stack((one.ideal, one.nadir)) for one in corners]
    return np.stack(rows) if rows else np.empty((0, 2, objectives))


def _listed(row: F64 | None) -> list[float] | None:
    return None if row is None else row.tolist()
