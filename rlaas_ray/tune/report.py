"""The page of a study: what won, by how much, what mattered, every trial; one HTML file with its pictures inside.

Called by analysis.py. Says nothing that the tables do not say.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import ranking
from rlaas_ray.tune.journal import Trial

FILE = "report.html"
_SHOWN = 200
_CSS = """:root{color-scheme:light dark;font:16px/1.55 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:.3rem .7rem;
border-bottom:1px solid #8884}.scroll{overflow-x:auto}h1{font-size:1.6rem}
img{max-width:100%;background:#fff;border-radius:.4rem}"""


def write(
    directory: Path,
    *,
    spec: TuneSpec,
    trials: Sequence[Trial],
    found: Mapping[str, Any],
    pictures: Mapping[str, Path],
) -> Path:
    """Writes `report.html`; gives its path."""
    maximise = [objective.maximise for objective in spec.objectives]
    order = [*ranking.ranked(trials, maximise=maximise), *(t for t in trials if t.state != "completed")]
    subject = spec.train.env if spec.train is not None else str(spec.function)
    parts = [
        f"<h1>Study of {escape(subject)}</h1><p>{escape(_summary(spec, trials))}</p>",
        f"<div class=scroll>{_winner(order[0], spec=spec)}</div>" if order else "",
        "" if found.get("hypervolume") is None else f"<p>Hypervolume of the front: {found['hypervolume']:.6g}</p>",
        *(f"<h2>{escape(title)}</h2>{_picture(title, path)}" for title, path in pictures.items()),
        f"<h2>Trials</h2><div class=scroll>{_trials(order[:_SHOWN], spec=spec)}</div>",
        "" if len(order) <= _SHOWN else f"<p>The first {_SHOWN} of {len(order)}; results.parquet has all.</p>",
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Study of {escape(subject)}</title>"
        f"<style>{_CSS}</style><main>{''.join(parts)}</main></html>\n"
    )
    path = directory / FILE
    path.write_text(page, encoding="utf-8")
    return path


def _summary(spec: TuneSpec, trials: Sequence[Trial]) -> str:
    states = {state: sum(trial.state == state for trial in trials) for state in ("completed", "stopped", "failed")}
    goals = ", ".join(f"{'largest' if o.maximise else 'smallest'} {o.metric}" for o in spec.objectives)
    limits = f"; {'; '.join(spec.constraints)}" if spec.constraints else ""
    return (
        f"Search {spec.search}, scheduler {spec.scheduler.kind}, seed {spec.seed}: {states['completed']} trials completed, "
        f"{states['stopped']} stopped early, {states['failed']} failed. Wanted: {goals}{limits}. "
        f"Seeds of each trial: {spec.seeds}{'; chosen by the worse end of the 95 % interval' if spec.seeds > 1 else ''}."
    )


def _winner(trial: Trial, *, spec: TuneSpec) -> str:
    rows = {
        "best trial": trial.number,
        **{o.metric: _shown(v) for o, v in zip(spec.objectives, trial.values or [], strict=False)},
        **trial.parameters,
    }
    return f"<table>{''.join(f'<tr><th>{escape(str(k))}<td>{escape(_shown(v))}' for k, v in rows.items())}</table>"


def _trials(trials: Sequence[Trial], *, spec: TuneSpec) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    heads = ["trial", "state", *(o.metric for o in spec.objectives), "95 %", "seconds", *names]
    lines = []
    for trial in trials:
        ends = ranking.interval(trial)
        values: list[float | None] = [*trial.values] if trial.values else [None] * len(spec.objectives)
        span = "" if ends is None else f"{ends[0]:.5g} to {ends[1]:.5g}"
        cells = [trial.number, trial.state, *values, span, trial.seconds, *(trial.parameters.get(n) for n in names)]
        lines.append(f"<tr>{''.join(f'<td>{escape(_shown(cell))}' for cell in cells)}")
    return f"<table><tr>{''.join(f'<th>{escape(head)}' for head in heads)}{''.join(lines)}</table>"


def _picture(title: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value)
