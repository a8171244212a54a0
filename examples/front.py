"""A front that is drawn while it grows, then its report: in this process, or by a server that runs.

    python examples/front.py --problem 5g --generations 60
    python examples/front.py --problem 5g --generations 60 --url http://localhost:8000

Both keep `live.html` as new as the search (open it, reload it) and leave `report.html`. In a notebook the first is a picture
below the cell: `client.optimization.start(problem_type="5g").watch()`.
"""

import argparse
import html
from collections.abc import Sequence
from pathlib import Path

from rlaas.sdk import RLaaSClient
from rlaas_ray.optimize import search
from rlaas_ray.pictures import notebook, search_report
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.optimize import OptimizeSpec


def main(arguments: Sequence[str] | None = None) -> Path:
    """Searches; gives the report."""
    told = _told(arguments)
    spec = {"generations": told.generations, "population_size": told.population, "seed": told.seed}
    live = told.out / "live.html"
    told.out.mkdir(parents=True, exist_ok=True)

    def show(picture: str) -> None:
        title = html.escape(told.problem)
        live.write_text(f"<!doctype html><meta charset=utf-8><title>{title}</title>{picture}", encoding="utf-8")

    if told.url:
        with RLaaSClient(told.url) as client:
            found = client.optimization.start(problem_type=told.problem, **spec).watch(show=show).raw
        events = None  # the result has kept a few moments
    else:
        found, events = _here(OptimizeSpec(problem=told.problem, **spec), show=show)
    report = told.out / search_report.FILE
    report.write_text(search_report.render(found, events=events), encoding="utf-8")
    print(found["summary"])
    print(report)
    return report


def _here(spec: OptimizeSpec, *, show):
    """The search in this process; gives its result and the fronts on the way."""
    events, trace = [], []

    def progress(made: search.Generation) -> None:
        event = made.event(job="here")
        if event["hypervolume"] is not None:
            trace.append((made.number, event["hypervolume"]))
        if made.number & (made.number - 1) == 0:  # generations 1, 2, 4, 8, ...
            events.append(event)
            show(notebook.moment(event, trace=trace))

    return search.run(spec, progress=progress, clock=SystemClock()), events


def _told(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A front that is drawn while it grows.")
    parser.add_argument("--problem", default="5g")
    parser.add_argument("--generations", type=int, default=60)
    parser.add_argument("--population", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--url", help="of a server that runs; without it the search is done here")
    parser.add_argument("--out", type=Path, default=Path("front"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
