"""What our fronts are worth against pymoo's own, on ZDT1-4, 6 and DTLZ1-7, at each problem's convergence budget.

    python -m benchmarks.fronts [--only nsga2,nsga3] [--problems zdt1,dtlz2] [--seeds 11] [--add PATH] [--ours]
    python -m benchmarks.fronts --find [--problems ...]     # the budgets anew
    python -m benchmarks.fronts --table PATH                # the table of what --add gathered

Hypervolumes of the last population, medians over seeds, beside that of the whole front; population 100, or 91 for three
objectives. A budget is the first of 100, 200, 400, ... generations after which twice as many add less than half a per cent to our
median (five seeds, the algorithm that `auto` takes). `--add` appends each run as a line of JSON, and skips those that are there.
Exits 1 where a median is below 0.995 of pymoo's.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.optimize import minimize

from rlaas_ray.optimize import algorithms
from rlaas_ray.optimize import benchmarks as known
from rlaas_ray.optimize.evaluation import evaluate
from rlaas_ray.optimize.kernels import directions

ALGORITHMS = ("nsga2", "nsga3", "moead", "spea2")
LADDER = (100, 200, 400, 800, 1600, 3200)
SHARE = 0.995
# Generations, as `--find` found them.
BUDGETS = {
    "zdt1": 200, "zdt2": 200, "zdt3": 200, "zdt4": 400, "zdt6": 400,
    "dtlz1": 400, "dtlz2": 200, "dtlz3": 800, "dtlz4": 200, "dtlz5": 100, "dtlz6": 800, "dtlz7": 200,
}  # fmt: skip
# MOEA/D has not converged there by then, ours or pymoo's: runs of pymoo's end between 0.467 and 0.538.
LONGER = {("zdt2", "moead"): 400}


def budget(problem: str, algorithm: str) -> int:
    """Generations of an algorithm on a problem."""
    return LONGER.get((problem, algorithm), BUDGETS[problem])


def population(problem: str) -> int:
    """Of every algorithm, so that all spend the same evaluations."""
    return 100 if problem.startswith("zdt") else 91


def ours(algorithm: str, problem: str, *, generations: int, seed: int) -> np.ndarray:
    """Objectives of the last population."""
    made = known.PROBLEMS[problem]()
    search = algorithms.make(algorithm, problem=made, population_size=population(problem), seed=seed)
    for _ in range(generations):
        f, g, h = evaluate(made, search.ask())
        search.tell(f=f, g=g, h=h)
    return search.population.f


def theirs(algorithm: str, problem: str, *, generations: int, seed: int) -> np.ndarray:
    """The same by pymoo, with its defaults."""
    made, size = known.PROBLEMS[problem](), population(problem)
    ways = directions.fitting(int(made.n_obj), population_size=size)
    makers: dict[str, Any] = {
        "nsga2": lambda: NSGA2(pop_size=size),
        "nsga3": lambda: NSGA3(ways, pop_size=size),
        "moead": lambda: MOEAD(ways),
        "spea2": lambda: SPEA2(pop_size=size),
    }
    found = minimize(made, makers[algorithm](), ("n_gen", generations), seed=seed)
    return np.asarray(found.pop.get("F"))


def worth(f: np.ndarray, problem: str) -> float:
    """Hypervolume against the problem's reference point."""
    return float(moocore.hypervolume(f, ref=known.hypervolume(problem).point))


def find(problems: list[str], *, seeds: int = 5) -> None:
    """Prints the budget of each problem."""
    for problem in problems:
        name = "nsga2" if problem.startswith("zdt") else "nsga3"
        before = 0.0
        for generations in LADDER:
            values = [
                worth(ours(name, problem, generations=generations, seed=seed), problem) for seed in range(1, seeds + 1)
            ]
            median = statistics.median(values)
            print(f"{problem} {name} {generations}: {median:.5f}", flush=True)
            if before > 0 and median < before * 1.005:
                break
            before = median


def runs(given: argparse.Namespace, done: set[tuple[str, str, str, int]]) -> Iterator[dict[str, Any]]:
    """Each run that is not done yet, ours and pymoo's in turns."""
    for problem in given.problems:
        for algorithm in given.only:
            for seed in range(1, given.seeds + 1):
                for side in ("ours",) if given.ours else ("ours", "pymoo"):
                    if (problem, algorithm, side, seed) in done:
                        continue
                    began = time.process_time()
                    call = ours if side == "ours" else theirs
                    f = call(algorithm, problem, generations=budget(problem, algorithm), seed=seed)
                    yield {
                        "problem": problem,
                        "algorithm": algorithm,
                        "side": side,
                        "seed": seed,
                        "generations": budget(problem, algorithm),
                        "hypervolume": worth(f, problem),
                        "cpu_s": round(time.process_time() - began, 3),
                    }


def cell(rows: list[dict[str, Any]], *, problem: str, algorithm: str) -> tuple[str, bool]:
    """Our median and its ratio to pymoo's, with pymoo's seeds where there were fewer; whether it is below the bar."""
    found: dict[str, list[float]] = {"ours": [], "pymoo": []}
    for row in rows:
        if (row["problem"], row["algorithm"]) == (problem, algorithm):
            found[row["side"]].append(row["hypervolume"])
    if not found["ours"]:
        return "", False
    own = statistics.median(found["ours"])
    if not found["pymoo"]:
        return f"{own:.4f}", False
    ratio = own / statistics.median(found["pymoo"])
    fewer = f"; {len(found['pymoo'])}" if len(found["pymoo"]) < len(found["ours"]) else ""
    return f"{own:.4f} ({ratio:.4f}{fewer})", ratio < SHARE


def table(rows: list[dict[str, Any]]) -> int:
    """Prints the medians; how many are below the bar."""
    print(f"| problem | whole front | generations | {' | '.join(ALGORITHMS)} |")
    print(f"| {' | '.join(['---'] * (3 + len(ALGORITHMS)))} |")
    missed = 0
    for problem in BUDGETS:
        cells = [cell(rows, problem=problem, algorithm=algorithm) for algorithm in ALGORITHMS]
        missed += sum(low for _, low in cells)
        front = known.hypervolume(problem).value
        print(f"| {problem} | {front:.4f} | {BUDGETS[problem]} | {' | '.join(told for told, _ in cells)} |")
    return missed


def main(arguments: list[str]) -> int:
    """0 where every median that has a counterpart reaches 0.995 of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.fronts")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ALGORITHMS))
    parser.add_argument("--problems", type=lambda text: text.split(","), default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--ours", action="store_true", help="leave pymoo out")
    parser.add_argument("--find", action="store_true")
    parser.add_argument("--add", type=Path)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args(arguments)
    if given.find:
        find(given.problems)
        return 0
    kept = given.table or given.add
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.exists() else []
    rows = [row for row in rows if row["generations"] == budget(row["problem"], row["algorithm"])]
    if not given.table:
        done = {(r["problem"], r["algorithm"], r["side"], r["seed"]) for r in rows}
        for row in runs(given, done):
            rows.append(row)
            if given.add:
                with given.add.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    return 1 if table(rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
