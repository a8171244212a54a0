"""`python -m benchmarks.choice`: what choosing a point takes, in CPU time of one core; exit 1 where a bar is missed.

Conflicts of 1,000 options and 10 parties have the bar of 1 ms. Shares of the simplex are compared with a choice per weight.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from rlaas_ray.optimize import choice, conflict, sensitivity

ROUNDS, BAR_MS = 200, 1.0
SIZES = ((500, 3), (2000, 4))


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1e6


def medians(*works: Callable[[], object], rounds: int) -> list[float]:
    """Median CPU milliseconds of each, called in turn, after one call that warms up."""
    for work in works:
        work()
    told = [[cpu_ms(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*told, strict=True)]


def sphere(points: int, objectives: int) -> np.ndarray:
    """A front: non-dominated points of the unit simplex, bent towards the ideal."""
    drawn = np.random.default_rng(points).dirichlet(np.ones(objectives), size=points)
    return np.ascontiguousarray(drawn**1.5)


def conflicts() -> bool:
    """Prints the table of rules; whether each keeps the bar."""
    utility = conflict.scaled(np.random.default_rng(1).random((10, 1000)))
    floors = np.full(10, 0.02)
    works = [lambda rule=rule: conflict.resolve(utility, rule=rule, floors=floors) for rule in conflict.RULES]
    impossible = np.full(10, 0.99)
    works.append(lambda: conflict.resolve(utility, floors=impossible))
    took = medians(*works, rounds=ROUNDS)
    print("\n| conflict, 1,000 options, 10 parties | CPU ms |\n| --- | --- |")
    for name, value in zip([*conflict.RULES, "no option meets all floors"], took, strict=True):
        print(f"| {name} | {value:.2f} |")
    return max(took) < BAR_MS


def methods() -> None:
    """Prints what each method takes, words and dominated rows included."""
    print("\n| method | points x objectives | CPU ms |\n| --- | --- | --- |")
    for points, objectives in SIZES:
        front, minimise = sphere(points, objectives), np.ones(objectives, bool)
        told = [{"targets": front.mean(axis=0)} if method == "achievement" else {} for method in choice.METHODS]
        works = [
            lambda method=method, more=more, front=front, minimise=minimise: choice.choose(
                front, method=method, minimise=minimise, **more
            )
            for method, more in zip(choice.METHODS, told, strict=True)
        ]
        for method, took in zip(choice.METHODS, medians(*works, rounds=15), strict=True):
            print(f"| {method} | {points:,} x {objectives} | {took:.2f} |")


def weights() -> None:
    """Prints what sensitivity takes, and how much a loop over the same weights would."""
    print(
        "\n| sensitivity of | points x objectives | intervals, 4,096 weights: CPU ms | a choice per weight / shares at once |"
    )
    print("| --- | --- | --- | --- |")
    for points, objectives in SIZES:
        front, minimise = sphere(points, objectives), np.ones(objectives, bool)
        for method in ("topsis", "pseudo_weights", "minimax"):
            made = choice.choose(front, method=method, minimise=minimise)
            some = np.random.default_rng(2).dirichlet(np.ones(objectives), size=64)
            at_once = lambda made=made, some=some: made.measure.score(some).argmax(axis=1)  # noqa: E731
            one_by_one = lambda method=method, some=some, front=front, minimise=minimise: [  # noqa: E731
                choice.choose(front, method=method, minimise=minimise, weights=weight) for weight in some
            ]
            whole = lambda made=made, front=front: sensitivity.sensitivity(  # noqa: E731
                front, made, rng=np.random.default_rng(0)
            )
            took = medians(whole, at_once, one_by_one, rounds=5)
            print(f"| {method} | {points:,} x {objectives} | {took[0]:.0f} | {took[2] / took[1]:.0f} |")


def main() -> int:
    """1 where a conflict takes 1 ms or more."""
    kept = conflicts()
    methods()
    weights()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
