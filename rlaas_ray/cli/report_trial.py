"""The two sections of the report that tell of a rollout: its verdict, its evidence over time, its traffic.

Called by report.py. Shows what the judge recorded and the client counted; never judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape

from rlaas_ray.cli import story
from rlaas_ray.cli.story import Trial
from rlaas_ray.pictures import chart as plots
from rlaas_ray.pictures import page

LN10 = math.log(10.0)
WORDS = {
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "aborted": "aborted",
    "inconclusive": "left undecided",
}
SHOWN_GATES = ("stages", "stage_min_units", "min_units", "promote", "alpha", "adjust")


def canary(trial: Trial) -> str:
    """The rollout of the trained policy."""
    return _trial(
        trial,
        key="canary",
        title="The canary, with live traffic",
        lead=_canary_lead(trial),
        last=_traffic,
        below="decisions a second by arm, with the challenger's share",
    )


def rollback(trial: Trial) -> str:
    """The rollout of the broken version."""
    return _trial(
        trial,
        key="rollback",
        title="A broken version, let in on purpose",
        lead=_rollback_lead(trial),
        last=_harm,
        below="all decisions that the broken version answered",
    )


def ended(trial: Trial) -> str:
    """How a rollout ended, in words."""
    return WORDS.get(trial.state, f"still {trial.state}")


def because(trial: Trial) -> str:
    """The product's reason, without the verdict that it begins with."""
    return str((trial.verdict or {}).get("reason") or "").removeprefix(f"{ended(trial)}: ")


def _canary_lead(trial: Trial) -> str:
    return (
        f"Simulated networks arrive one after another; each is a unit that lives for 8 decisions. {trial.champion} answers "
        f"most of them, {trial.challenger} a growing share. The judge may look as often as it likes: its evidence stays valid."
    )


def _rollback_lead(trial: Trial) -> str:
    return (
        f"{trial.challenger} is a registered version with bad settings: full power, every antenna tilted down to the foot of its "
        f"mast. Nobody tells the judge: it meets the same gate as every "
        f"other, with {trial.champion} as champion. What counts is how many decisions it answered before it was taken out."
    )


def _trial(trial: Trial, *, key: str, title: str, lead: str, last: Callable[[Trial], str], below: str) -> str:
    reason = escape(because(trial) or "No verdict was reached.")
    limit = story.limits(float(trial.spec.get("alpha", 0.01)))
    gates = [f"{k.replace('_', ' ')} {page.plain(v)}" for k, v in trial.spec.items() if k in SHOWN_GATES]
    off = [name for name, on in trial.spec.get("guards", {}).items() if not on]
    gates += [f"guard off: {name}" for name in off]
    preset = " (demo preset: short gates)" if trial.spec.get("preset") == "demo" else ""
    box = (
        f'<div class="verdict {escape(trial.state)}"><strong>{escape(ended(trial).capitalize())}</strong><p>{reason}</p>'
        f"<small>{trial.decisions:,} decisions, {trial.harmed:,} by the challenger, {trial.failures:,} failed calls, "
        f"{trial.seconds:.1f} s. Gates{preset}: {escape(', '.join(gates))}.</small></div>"
    )
    caption = (
        "Top: evidence against the challenger (by what it harms) and for it, in powers of ten; a line that crosses its limit "
        f"decides (reward {limit['reward']:g}, failures and latency {limit['failure']:g}, promotion {limit['promote']:g}; "
        "guards that are off have no line). Middle: the challenger's effect on the scaled return with a 95 % interval, "
        "for reading only. "
        f"Bottom: {below}, as the client counted them."
    )
    charts = "".join((_evidence(trial, limit=limit), _effect(trial), last(trial)))
    text = f"<p>{escape(lead)}</p>"
    return page.section(key, title=title, parts=(text, box, page.figure(charts, caption=caption)))


def _evidence(trial: Trial, *, limit: Mapping[str, float]) -> str:
    guards = trial.spec.get("guards", {})
    columns = (
        ("log_e_reward", "reward", "harm"),
        *((("log_e_failure", "failures", "reference"),) if guards.get("failures", True) else ()),
        *((("log_e_latency", "latency", "muted"),) if guards.get("latency", True) else ()),
        (
            f"log_w_{'superior' if trial.spec.get('promote') == 'superior' else 'non_inferior'}",
            "for promotion",
            "challenger",
        ),
    )
    lines = [(_column(trial, key, scale=1 / LN10), name, colour) for key, name, colour in columns]
    tops = [math.log10(limit["reward"]), math.log10(limit["promote"])]
    values = [v for line, _, _ in lines for _, v in line] + tops
    # Evidence the other way falls without end; below 1 in 10,000 nobody needs to see how far.
    low = max(min([-1.0, *values]), -4.0)
    chart = plots.Chart(
        x=_time_axis(trial),
        y=plots.Axis(label="evidence, powers of ten", low=low, high=max(values) * 1.1 + 0.2),
        title="Evidence over time with its limits",
        height=280,
        right=92,
    )
    chart.level(tops[0], colour="harm", label=f"roll back at {limit['reward']:g}")
    chart.level(tops[1], colour="challenger", label=f"promote at {limit['promote']:g}", at_end=True)
    for line, name, colour in lines:
        chart.line(plots.thinned(line), colour=colour, label=name)
        chart.dots(line[:: 1 + len(line) // 60], colour=colour)
    return chart.svg()


def _effect(trial: Trial) -> str:
    rows = [r for r in trial.evidence if r.get("effect") is not None and r.get("effect_low") is not None]
    if not rows:
        return ""
    values = [r[k] for r in rows for k in ("effect", "effect_low", "effect_high")]
    # The first intervals are as wide as the scale; the later half sets the window.
    late = [r[k] for r in rows[len(rows) // 3 :] for k in ("effect_low", "effect_high")]
    low, high = max(min(values), min(late) * 1.5 - 0.02), min(max(values), max(late) * 1.5 + 0.02)
    chart = plots.Chart(
        x=_time_axis(trial),
        y=plots.spanning("effect on the return", [low, high], zero=True),
        title="The challenger's effect over time with a 95 % interval",
        height=210,
        right=92,
    )
    chart.band([(r["t"], r["effect_low"], r["effect_high"]) for r in rows], colour="challenger")
    chart.level(0.0, colour="muted", label="no difference", at_end=True)
    chart.whiskers(
        [(r["t"], r["effect_low"], r["effect_high"]) for r in rows[:: 1 + len(rows) // 60]], colour="challenger"
    )
    chart.dots([(r["t"], r["effect"]) for r in rows[:: 1 + len(rows) // 60]], colour="challenger", radius=2.8)
    chart.line(plots.thinned([(r["t"], r["effect"]) for r in rows]), colour="challenger", label="effect")
    return chart.svg()


def _traffic(trial: Trial) -> str:
    traffic = trial.traffic
    both = [a + b for a, b in zip(traffic.champion, traffic.challenger, strict=True)]
    chart = plots.Chart(
        x=_time_axis(trial),
        # Room at the top for the shares.
        y=plots.spanning("decisions per second", [1.18 * v for v in both], zero=True),
        title="Decisions per second by arm",
        height=190,
        right=92,
    )
    # The last second is not a whole one.
    seconds = traffic.second[:-1] if len(traffic.second) > 2 else traffic.second
    last = (seconds[-1] + 1.0) if seconds else 0.0
    for values, colour, label in ((both, "champion", "all"), (traffic.challenger, "challenger", "challenger")):
        points = [(float(s), float(v)) for s, v in zip(seconds, values, strict=False)]
        chart.steps([*points, (last, points[-1][1])] if points else [], colour=colour, label=label, fill=True)
    for at, share in _stages(trial):
        chart.moment(at, label=f"{share:.0%}")
    return chart.svg()


def _harm(trial: Trial) -> str:
    """The challenger's decisions, summed over time, up to the verdict."""
    total, points = 0, [(0.0, 0.0)]
    for second, count in zip(trial.traffic.second, trial.traffic.challenger, strict=True):
        total += count
        points.append((second + 1.0, float(total)))
    chart = plots.Chart(
        x=_time_axis(trial),
        y=plots.spanning("decisions harmed", [1.2 * total, 1.0], zero=True),
        title="Decisions of the broken version, summed, until it was rolled back",
        height=210,
        right=92,
    )
    chart.steps(points, colour="harm", label=f"{total:,}", fill=True)
    if trial.verdict_s is not None:
        chart.moment(trial.verdict_s, label=f"{ended(trial)} at {trial.verdict_s:.1f} s", colour="harm")
    return chart.svg()


def _stages(trial: Trial) -> list[tuple[float, float]]:
    """When the challenger's share changed, as the evidence recorded it."""
    found: list[tuple[float, float]] = []
    for row in trial.evidence:
        share = float(row.get("share") or 0.0)
        if share > 0 and (not found or abs(found[-1][1] - share) > 1e-9):
            found.append((row["t"], share))
    return found


def _time_axis(trial: Trial) -> plots.Axis:
    last = max([trial.seconds, *(row["t"] for row in trial.evidence[-1:])])
    return plots.Axis(label="seconds since the rollout's start", low=0.0, high=max(last, 1.0))


def _column(trial: Trial, name: str, *, scale: float) -> list[tuple[float, float]]:
    return [(row["t"], row[name] * scale) for row in trial.evidence if row.get(name) is not None]
