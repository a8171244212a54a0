"""Pictures of a study as PNG: its history, its parameters side by side, their importance, its front.

Called by analysis.py. Matplotlib's figures without pyplot: no global state, no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import ranking
from rlaas_ray.tune.journal import Trial
from rlaas_ray.tune.spaces import Choice, Domain, Space

_BLUE, _GREEN, _GREY = "#3d6a9e", "#0f8a6b", "#b9bdc4"


def draw(
    directory: Path, *, spec: TuneSpec, space: Space, trials: Sequence[Trial], importance: Mapping[str, float] | None
) -> dict[str, Path]:
    """Each picture that there is something to show in; gives title -> file."""
    maximise = [objective.maximise for objective in spec.objectives]
    done = [trial for trial in trials if trial.state == "completed" and trial.values is not None]
    found = {"History": (directory / "history.png", _history(done, spec=spec, maximise=maximise))}
    if len(space.domains) > 1:
        found["Parallel coordinates"] = (directory / "parallel.png", _parallel(done, space=space, maximise=maximise))
    if importance:
        found["Importance"] = (directory / "importance.png", _importance(importance))
    if len(maximise) > 1:
        found["Front"] = (directory / "front.png", _front(done, spec=spec, maximise=maximise))
    for path, figure in found.values():
        figure.savefig(path, dpi=120)
    return {title: path for title, (path, _) in found.items()}


def _figure(width: float = 8.0, height: float = 4.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _history(done: Sequence[Trial], *, spec: TuneSpec, maximise: Sequence[bool]) -> Figure:
    """The first objective of each completed trial, and the best so far."""
    figure, axes = _figure()
    numbers = [trial.number for trial in done]
    values = [trial.values[0] for trial in done if trial.values is not None]
    axes.plot(numbers, values, "o", color=_GREY, markersize=5, label="trial")
    best = np.maximum.accumulate(values) if maximise[0] else np.minimum.accumulate(values)
    axes.step(numbers, best, where="post", color=_GREEN, linewidth=2, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(spec.objectives[0].metric)
    axes.legend(frameon=False)
    return figure


def _parallel(done: Sequence[Trial], *, space: Space, maximise: Sequence[bool]) -> Figure:
    """One line a trial over all parameters, each scaled to its range; the best fifth is green."""
    names = list(space.domains)
    figure, axes = _figure(width=max(6.0, 1.7 * len(names)))
    order = ranking.ranked(done, maximise=maximise)
    shown = [(trial, rank < max(1, len(order) // 5)) for rank, trial in enumerate(order)]
    for trial, good in reversed(shown):
        places = [_place(space.domains[name], trial.parameters.get(name)) for name in names]
        axes.plot(
            range(len(names)), places, color=_GREEN if good else _GREY, alpha=0.9 if good else 0.45, linewidth=1.4
        )
    axes.set_xticks(range(len(names)), [_label(name, space.domains[name]) for name in names], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.04, 1.04)
    return figure


def _place(domain: Domain, value: Any) -> float:
    """Where a value lies in its range, in [0, 1]; NaN (a gap) for one that was not taken."""
    if value is None:
        return float("nan")
    if isinstance(domain, Choice):
        return domain.listed.index(value) / max(1, len(domain.listed) - 1)
    if domain.log:
        return float(np.log(value / domain.low) / np.log(domain.high / domain.low))
    return float((value - domain.low) / (domain.high - domain.low))


def _label(name: str, domain: Domain) -> str:
    if isinstance(domain, Choice):
        return f"{name}\n{_short(domain.listed[0])} to {_short(domain.listed[-1])}"
    return f"{name}\n{_short(domain.low)} to {_short(domain.high)}{' (log)' if domain.log else ''}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _importance(importance: Mapping[str, float]) -> Figure:
    figure, axes = _figure(height=0.8 + 0.4 * len(importance))
    names = list(importance)[::-1]
    axes.barh(names, [importance[name] for name in names], color=_BLUE)
    axes.set_xlabel("share of the objective's variation (PED-ANOVA)")
    return figure


def _front(done: Sequence[Trial], *, spec: TuneSpec, maximise: Sequence[bool]) -> Figure:
    """The first two objectives; the front in green, what breaks a constraint as crosses."""
    figure, axes = _figure(width=6.0, height=5.0)
    front = sorted(ranking.front(done, maximise=maximise), key=lambda trial: trial.values or [])
    for marker, color, label, rows in (
        ("x", _GREY, "breaks a constraint", [t for t in done if not t.feasible]),
        ("o", _GREY, "dominated", [t for t in done if t.feasible and t not in front]),
        ("o", _GREEN, "front", front),
    ):
        if rows:
            points = np.array([trial.values for trial in rows])
            axes.plot(points[:, 0], points[:, 1], marker, color=color, label=label)
    axes.set_xlabel(spec.objectives[0].metric)
    axes.set_ylabel(spec.objectives[1].metric)
    axes.legend(frameon=False)
    return figure
