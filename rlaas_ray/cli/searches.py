"""What a person sees of a search: its hypervolume and its ideal point below the bar while it runs, a report when it has ended.

Used by following.py, attempts.py and `rlaas runs report`. The report is drawn from the run's document, wherever the run was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaas_ray import settings
from rlaas_ray.cli import trials
from rlaas_ray.pictures import search_report
from rlaas_ray.pictures.found import document_of, read
from rlaas_ray.sdk.handles import Search

_LEVELS = "▁▂▃▄▅▆▇█"
_WIDE = 40


class Growth(trials.Below):
    """Looks at the front of `run` whenever it is told of progress."""

    counts = "generations"

    def __init__(self, title: str, *, quiet: bool, run: Search) -> None:
        super().__init__(title, quiet=quiet)
        self._run = run
        self._volumes: list[float] = []

    def _below(self) -> Any:
        from rich.text import Text

        return Text("\n".join(below(self._run.front(), volumes=self._volumes)))


def below(front: Mapping[str, Any], *, volumes: list[float]) -> list[str]:
    """The lines below the bar; `volumes`, what was seen before, grows by what this front says."""
    found = read(front)
    trace = [value for _, value in found.trace]
    if found.hypervolume is not None and not trace:
        volumes.append(found.hypervolume)
    lines = [f"hypervolume {sparkline(trace or volumes)} {(trace or volumes)[-1]:.4f}"] if trace or volumes else []
    return [*lines, f"best of each {found.named(found.bests)}"] if found.rows else lines


def sparkline(values: Sequence[float], *, width: int = _WIDE) -> str:
    """A line of blocks, at most `width`: the lowest value the lowest block, the highest a full one."""
    every = max(1, -(-len(values) // width))
    shown = list(values)[::-1][::every][::-1]  # from the end, so that the newest is there
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    step = (high - low) / (len(_LEVELS) - 1)
    return "".join(_LEVELS[round((value - low) / step) if step > 0 else 0] for value in shown)


def report(run: Mapping[str, Any], *, to: Path | None = None, choices: Sequence[Mapping[str, Any]] = ()) -> Path | None:
    """Writes the page of a run that has found a front, whole or not at all; by default beside the run. None without a front."""
    result = document_of(run.get("result") or {})
    if result is None:
        return None
    result = {"problem": (run.get("spec") or {}).get("env"), **result}
    path = to or settings.read().home / "runs" / run["id"] / search_report.FILE
    return written(search_report.render(result, choices=choices, run_id=run["id"]), path)


def written(page: str, path: Path) -> Path:
    """The page in a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(path)
