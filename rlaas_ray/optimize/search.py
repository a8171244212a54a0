"""The search for a front: NSGA-III through pymoo, an archive beside it, one report a generation.

`run` is what a run of kind `optimize` executes (wiring.attempt) and what the quickstart calls; `search` is the same on a
problem in hand. Deterministic by seed. Never touches a file, a clock of its own or the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.operators.sampling.rnd import FloatRandomSampling
from pymoo.util.ref_dirs import get_reference_directions

from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.optimize import choice, front, problems
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.seams import Clock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """What a search reports after each generation; `values` (front_size, m) are the points so far, in natural units."""

    number: int
    of: int
    evaluations: int
    front_size: int
    hypervolume: float
    elapsed_s: float
    eta_s: float
    values: F64


Progress = Callable[[Generation], None]


def run(
    spec: OptimizeSpec, *, progress: Progress | None = None, stop: threading.Event | None = None, clock: Clock
) -> dict[str, Any]:
    """Search what the spec names; the result document of the run (front, chosen, hypervolume, summary)."""
    found = search(
        problems.resolve(spec),
        population_size=spec.population_size,
        generations=spec.generations,
        seed=spec.seed,
        progress=progress,
        stop=stop,
        clock=clock,
    )
    result = found.to_json()
    # `best_solution` is the SDK's word for the chosen point.
    return {
        "problem": spec.problem,
        "algorithm": spec.algorithm,
        "mode": spec.mode,
        **result,
        "best_solution": result["chosen"],
    }


def search(
    subject: problems.Subject,
    *,
    population_size: int,
    generations: int,
    seed: int,
    clock: Clock,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> front.Front:
    """The front after `generations`, or after the generation in which `stop` was set; a stopped front is valid."""
    problem = subject.problem
    algorithm = NSGA3(
        ref_dirs=directions(int(problem.n_obj), population_size=population_size),
        pop_size=population_size,
        sampling=_start(subject, population_size=population_size, seed=seed),
    )
    algorithm.setup(problem, termination=("n_gen", generations), seed=seed, verbose=False)
    archive = front.Archive(variables=int(problem.n_var), objectives=int(problem.n_obj))
    started = clock.monotonic_s()
    box, evaluations = subject.box, 0
    trace: list[float] = []
    while algorithm.has_next() and not (stop is not None and stop.is_set()):
        offspring = algorithm.ask()
        algorithm.evaluator.eval(problem, offspring)
        evaluations += len(offspring)
        feasible = offspring.get("CV")[:, 0] <= 0
        archive.add(offspring.get("X")[feasible].astype(np.float64), offspring.get("F")[feasible])
        algorithm.tell(infills=offspring)
        box = box or _first_box(archive.f)
        trace.append(front.hypervolume(archive.f, ideal=box[0], nadir=box[1]) if box else 0.0)
        if progress is not None:
            elapsed_s = clock.monotonic_s() - started
            progress(
                Generation(
                    number=len(trace),
                    of=generations,
                    evaluations=evaluations,
                    front_size=len(archive.f),
                    hypervolume=trace[-1],
                    elapsed_s=elapsed_s,
                    eta_s=elapsed_s / len(trace) * (generations - len(trace)),
                    values=archive.f * subject.sign,
                )
            )
    anchors = _with_anchors(archive, subject=subject)
    return _chosen(
        subject,
        archive,
        anchors=anchors,
        box=box,
        trace=np.array(trace),
        seed=seed,
        generations=generations,
        evaluations=evaluations + len(anchors),
        seconds=clock.monotonic_s() - started,
    )


def directions(objectives: int, *, population_size: int) -> F64:
    """Das-Dennis reference directions, as many as fit the population. (k, m)."""
    if objectives < 2:
        raise InvalidInput(
            "a front needs two objectives",
            given=objectives,
            expected="a problem with n_obj >= 2",
            cure="Use a plain optimizer.",
        )
    parts = 1
    while comb(parts + objectives, objectives - 1) <= population_size:
        parts += 1
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=parts), dtype=np.float64)


def _start(subject: problems.Subject, *, population_size: int, seed: int) -> Any:
    """The first population: uniform, with the anchors in its first rows where the problem asks for a warm start."""
    if not (subject.warm_start and subject.anchors):
        return FloatRandomSampling()
    problem = subject.problem
    low, high = np.asarray(problem.xl, dtype=np.float64), np.asarray(problem.xu, dtype=np.float64)
    first = np.random.default_rng(seed).random((population_size, int(problem.n_var))) * (high - low) + low
    known = np.stack(list(subject.anchors.values()))[:population_size]
    first[: len(known)] = known
    return first


def _with_anchors(archive: front.Archive, *, subject: problems.Subject) -> dict[str, F64]:
    """Evaluates the anchors once and merges them; gives their objectives, minimised. name -> (m,)."""
    if not subject.anchors:
        return {}
    x = np.stack(list(subject.anchors.values()))
    f = np.asarray(subject.problem.evaluate(x, return_values_of=["F"]), dtype=np.float64)
    archive.add(x, f)
    return dict(zip(subject.anchors, f, strict=True))


def _first_box(f: F64) -> tuple[F64, F64] | None:
    """For a problem that names no box: from the first feasible front, a tenth of its range wider. Fixed from then on."""
    if not len(f):
        return None
    low, high = f.min(axis=0), f.max(axis=0)
    margin = 0.1 * np.where(high > low, high - low, 1.0)
    return low - margin, high + margin


def _chosen(
    subject: problems.Subject,
    archive: front.Archive,
    *,
    anchors: dict[str, F64],
    box: tuple[F64, F64] | None,
    **facts: Any,
) -> front.Front:
    if box is None:
        raise WorkFailed(
            "the search found no feasible point",
            given=f"{facts['evaluations']} evaluations",
            expected="at least one point that keeps every constraint",
            cure="Give more generations, a larger population, or looser constraints.",
        )
    values = archive.f * subject.sign
    picked = choice.topsis(values, subject.weight, minimise=subject.minimise)
    generations = facts.pop("generations")
    return front.Front(
        objectives=subject.objectives,
        x=archive.x,
        values=values,
        score=picked.score,
        weight=subject.weight / subject.weight.sum(),
        chosen=picked.index,
        hypervolume=front.hypervolume(archive.f, ideal=box[0], nadir=box[1]),
        box=(box[0] * subject.sign, box[1] * subject.sign),
        anchors={name: f * subject.sign for name, f in anchors.items()},
        generations=len(facts["trace"]),
        stopped=len(facts["trace"]) < generations,
        **facts,
    )
