"""How much faster our searches are than pymoo's own, and what their fronts are worth.

    python -m benchmarks.optimize [--seeds 11] [--only nsga2,spea2] [--json PATH] [--scale 1.0]

CPU seconds of one core, both sides in turns in one process, the same problem, population and generations; a ratio is the median
over seeds of pymoo's seconds over ours. Hypervolumes are medians over the same seeds at the budgets of the bars. Exits 1 when a
gate is missed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.optimize import minimize
from pymoo.problems import get_problem

from rlaas_ray.optimize import algorithms
from rlaas_ray.optimize.evaluation import evaluate
from rlaas_ray.optimize.kernels import directions


@dataclass(frozen=True)
class Speed:
    """One comparison; `gate` must be met, `stretch` is what we would like."""

    algorithm: str
    problem: str
    variables: int
    population: int
    generations: int
    gate: float
    stretch: float


@dataclass(frozen=True)
class Worth:
    """One hypervolume: its median must reach `bar`. Reference point 1.1 in every objective."""

    algorithm: str
    problem: str
    variables: int
    population: int
    generations: int
    bar: float


SPEEDS = (
    Speed("nsga2", "dtlz2", 12, 100, 200, 5.0, 8.0),
    Speed("nsga2", "zdt1", 30, 100, 200, 5.0, 8.0),
    Speed("nsga2", "zdt1", 100, 100, 200, 5.0, 8.0),
    Speed("nsga2", "zdt1", 1000, 100, 60, 7.0, 10.0),
    Speed("nsga2", "zdt1", 5000, 100, 20, 6.0, 9.0),
    Speed("nsga3", "dtlz2", 12, 91, 200, 5.5, 10.0),
    Speed("nsga3", "zdt1", 30, 100, 200, 5.5, 10.0),
    Speed("spea2", "dtlz2", 12, 100, 100, 6.0, 10.0),
    Speed("spea2", "zdt1", 30, 100, 200, 6.0, 10.0),
    Speed("moead", "dtlz2", 12, 91, 40, 40.0, 60.0),
    Speed("moead", "zdt1", 30, 100, 40, 40.0, 60.0),
    Speed("moead", "zdt1", 1000, 100, 30, 5.0, 10.0),
    Speed("moead", "zdt1", 5000, 100, 10, 5.0, 10.0),
)
WORTHS = (
    Worth("nsga2", "zdt1", 30, 100, 200, 0.8655),
    Worth("nsga2", "dtlz2", 12, 100, 200, 0.697),
    Worth("nsga3", "dtlz2", 12, 91, 200, 0.742),
    Worth("moead", "dtlz2", 12, 91, 150, 0.738),
    Worth("spea2", "dtlz2", 12, 100, 100, 0.727),
)


def theirs(case: Speed, seed: int) -> np.ndarray:
    """A whole run of pymoo's algorithm with its defaults; its final objectives."""
    problem = get_problem(case.problem, n_var=case.variables)

    def simplex() -> np.ndarray:
        return directions.fitting(problem.n_obj, population_size=case.population)

    makers: dict[str, Callable[[], Any]] = {
        "nsga2": lambda: NSGA2(pop_size=case.population),
        "nsga3": lambda: NSGA3(simplex(), pop_size=case.population),
        "moead": lambda: MOEAD(simplex()),
        "spea2": lambda: SPEA2(pop_size=case.population),
    }
    found = minimize(problem, makers[case.algorithm](), ("n_gen", case.generations), seed=seed)
    return np.asarray(found.pop.get("F"))


def ours(case: Speed | Worth, seed: int) -> np.ndarray:
    """The same with ours."""
    problem = get_problem(case.problem, n_var=case.variables)
    search = algorithms.make(case.algorithm, problem=problem, population_size=case.population, seed=seed)
    for _ in range(case.generations):
        f, g, h = evaluate(problem, search.ask())
        search.tell(f=f, g=g, h=h)
    return search.population.f


def seconds(call: Callable[[Any, int], np.ndarray], case: Any, seed: int) -> float:
    """CPU seconds of one run."""
    began = time.process_time()
    call(case, seed)
    return time.process_time() - began


def compare(case: Speed, seeds: int) -> dict[str, Any]:
    """The pairs of one case, in turns, whoever goes first changing."""
    pairs = []
    ours(Speed(**{**asdict(case), "generations": 3}), 0)
    for seed in range(1, seeds + 1):
        if seed % 2:
            own, other = seconds(ours, case, seed), seconds(theirs, case, seed)
        else:
            other, own = seconds(theirs, case, seed), seconds(ours, case, seed)
        pairs.append((other, own))
    ratios = sorted(other / own for other, own in pairs)
    ratio = statistics.median(ratios)
    return {
        **asdict(case),
        "ratio": round(ratio, 2),
        "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "our_ms": round(1e3 * statistics.median(own for _, own in pairs) / case.generations, 3),
        "pymoo_ms": round(1e3 * statistics.median(other for other, _ in pairs) / case.generations, 3),
        "met": ratio >= case.gate,
        "stretched": ratio >= case.stretch,
    }


def worth(case: Worth, seeds: int) -> dict[str, Any]:
    """The median hypervolume over seeds."""
    found = []
    for seed in range(1, seeds + 1):
        f = ours(case, seed)
        found.append(float(moocore.hypervolume(f, ref=np.full(f.shape[1], 1.1))))
    median = statistics.median(found)
    return {**asdict(case), "hypervolume": round(median, 5), "met": median >= case.bar}


def told(speeds: list[dict[str, Any]], worths: list[dict[str, Any]]) -> None:
    """The two tables."""
    if speeds:
        print("\n| algorithm | problem | variables | ours, ms a generation | pymoo | ratio (range) | gate | stretch |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in speeds:
        mark = "stretch" if row["stretched"] else "gate" if row["met"] else "MISSED"
        print(
            f"| {row['algorithm']} | {row['problem']} | {row['variables']:,} | {row['our_ms']} | {row['pymoo_ms']} "
            f"| **{row['ratio']}** ({row['range'][0]}-{row['range'][1]}) {mark} | {row['gate']:g} | {row['stretch']:g} |"
        )
    if worths:
        print("\n| algorithm | problem | population | generations | median hypervolume | bar |")
        print("| --- | --- | --- | --- | --- | --- |")
    for row in worths:
        mark = "" if row["met"] else " MISSED"
        head = f"| {row['algorithm']} | {row['problem']} | {row['population']} | {row['generations']} "
        print(f"{head}| {row['hypervolume']}{mark} | {row['bar']} |")


def main(arguments: list[str]) -> int:
    """0 when every gate is met."""
    parser = argparse.ArgumentParser(prog="benchmarks.optimize")
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--only", default="", help="algorithms, by comma")
    parser.add_argument("--parts", default="speed,worth")
    parser.add_argument("--scale", type=float, default=1.0, help="of the generations of the speed part")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    only = set(filter(None, given.only.split(",")))
    speeds, worths = [], []
    if "speed" in given.parts:
        for case in SPEEDS:
            if not only or case.algorithm in only:
                short = Speed(**{**asdict(case), "generations": max(5, round(case.generations * given.scale))})
                speeds.append(compare(short, given.seeds))
    if "worth" in given.parts:
        worths = [worth(case, given.seeds) for case in WORTHS if not only or case.algorithm in only]
    told(speeds, worths)
    document = {"seeds": given.seeds, "speed": speeds, "hypervolume": worths}
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row["met"] for row in (*speeds, *worths)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
