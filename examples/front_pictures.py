"""The pictures of docs/optimization.md, from searches done now: `python examples/front_pictures.py docs/images`.

Four problems, seed 7; about ten seconds of one core. Light and dark are in the same file.
"""

import sys
from pathlib import Path

from rlaas_ray.optimize import search
from rlaas_ray.pictures import alone, chart, fronts, parallel, space
from rlaas_ray.pictures.found import read
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.optimize import OptimizeSpec

RUNS = {
    "5g": OptimizeSpec(problem="5g", mode="emergency", population_size=100, generations=200, seed=7),
    "recommendation": OptimizeSpec(
        problem="recommendation", mode="revenue_focused", population_size=100, generations=150, seed=7
    ),
    "zdt1": OptimizeSpec(problem="pymoo.problems.multi.zdt:ZDT1", population_size=100, generations=200, seed=7),
    "dtlz2": OptimizeSpec(
        problem="pymoo.problems.many.dtlz:DTLZ2",
        problem_config={"n_var": 12, "n_obj": 3},
        population_size=91,
        generations=200,
        seed=7,
    ),
}


def main(folder: Path, runs: dict[str, OptimizeSpec] = RUNS) -> list[Path]:
    """Searches and draws; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, spec in runs.items():
        events = []

        def progress(made: search.Generation, *, events=events) -> None:
            if made.number & (made.number - 1) == 0:
                events.append(made.event(job="pictures"))

        result = search.run(spec, progress=progress, clock=SystemClock())
        print(f"{name}: {result['summary']}")
        for kind, (title, drawing) in pictures(name, result, events=events).items():
            path = folder / f"front-{name}-{kind}.svg"
            path.write_text(alone.standing(drawing, title=title), encoding="utf-8")
            written.append(path)
    return written


def pictures(name: str, result: dict, *, events: list) -> dict[str, tuple[str, str]]:
    """Kind -> title and drawing: what suits the number of objectives."""
    found = read(result)
    size = f"{name}: {result['front_size']:,} points"
    if len(found.objectives) == 2:
        growth = fronts.growth(found, events=[*events, {**result, "generation": result["generations"]}], most=3)
        drawn = {"plane": (size, fronts.plane(found, width=chart.WIDTH, height=400))}
        return drawn | {f"growth-{i + 1}": moment for i, moment in enumerate(growth)}
    drawn = {"space": (f"{size}, in space", space.cube(found, columns=found.heaviest[:3]))}
    if name == "5g":
        x, y = fronts.planes(found)[0]
        drawn["plane"] = (
            f"{name}: two of the objectives",
            fronts.plane(found, x=x, y=y, width=chart.WIDTH, height=400),
        )
        drawn["trace"] = (f"{name}: hypervolume", fronts.trace(found, width=chart.WIDTH))
    if name != "dtlz2":
        drawn["parallel"] = (f"{size}, better is up", parallel.coordinates(found))
    return drawn


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
