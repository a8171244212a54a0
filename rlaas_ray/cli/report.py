"""The report of a quickstart: one HTML file that needs nothing else, for a person who wants to see what happened.

Called by quickstart.py with a Story. Shows what the story holds and nothing more; never computes a statistic.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from rlaas_ray.cli import report_trial
from rlaas_ray.cli.story import Score, Story
from rlaas_ray.pictures import chart as plots
from rlaas_ray.pictures import fronts, page, style
from rlaas_ray.pictures.found import read

ARM_COLOURS = {"random": "muted", "hold": "champion", "grid": "champion", "coordinate_ascent": "reference"}


def write(told: Story, path: Path) -> Path:
    """Writes the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(render(told), encoding="utf-8")
    partial.replace(path)
    return path


def render(told: Story) -> str:
    """The page."""
    body = "".join(
        (
            _hero(told),
            _scores(told),
            _learning(told),
            _front(told.front),
            report_trial.canary(told.canary),
            report_trial.rollback(told.rollback),
            _facts(told),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>RLaaS on Ray: {escape(headline(told))}</title><style>{style.CSS}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )


def headline(told: Story) -> str:
    """The run in one sentence, whichever way it went."""
    learnt = told.score("trained")
    gain = f" by {learnt.gain[0]:+.2f}" if learnt is not None and learnt.gain is not None else ""
    first = f"The trained policy changed a day's return{gain} against the operator's heuristic"
    then = f"and was {report_trial.ended(told.canary)}"
    second = f"the broken version was {report_trial.ended(told.rollback)} after {told.rollback.harmed:,} decisions"
    return f"{first} {then}; {second}."


def _hero(told: Story) -> str:
    learnt = told.score("trained")
    cards = [
        ("Return gained", _gain(learnt), "a day, against the heuristic on the same fresh worlds"),
        (
            "Canary",
            report_trial.ended(told.canary),
            f"after {told.canary.decisions:,} live decisions in {told.canary.seconds:.0f} s",
        ),
        ("Broken version", report_trial.ended(told.rollback), f"{told.rollback.harmed:,} decisions were its own"),
        ("Whole loop", f"{told.seconds:.0f} s", f"{'fast' if told.fast else 'full'} run, seed {told.seed}"),
    ]
    shown = "".join(
        f'<div class="card"><span>{escape(name)}</span><strong>{escape(value)}</strong><small>{escape(note)}</small></div>'
        for name, value, note in cards
    )
    return (
        f'<header id="summary"><p class="kicker">RLaaS on Ray &middot; quickstart &middot; {escape(told.started)}</p>'
        f"<h1>{escape(headline(told))}</h1>"
        f'<p class="lead">A simulated 5G network of 21 cells ({escape(told.env)}, weights of mode <b>{escape(told.mode)}</b>). '
        "An operator's fixed setting serves first. A policy is trained, scored, and then has to earn its traffic; "
        f'a version that acts badly is let in on purpose at the end.</p><div class="cards">{shown}</div></header>'
    )


def _gain(row: Score | None) -> str:
    return f"{row.gain[0]:+.2f}" if row is not None and row.gain is not None else "not measured"


def _scores(told: Story) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(row.name)}</th><td>{page.number(row.mean)}</td>"
        f"<td>{page.number(row.low)} to {page.number(row.high)}</td>"
        f"<td>{'' if row.score is None else f'{row.score:.1f}'}</td><td>{_gain_text(row)}</td><td>{row.episodes}</td>"
        f"<td class=source>{escape(row.source)}</td></tr>"
        for row in told.scores
    )
    chart = plots.intervals(
        [(row.name, row.mean, row.low, row.high, ARM_COLOURS.get(row.name, "challenger")) for row in told.scores],
        title="Return of an episode by policy with 95 % intervals",
        label="return of a whole day (96 steps)",
    )
    made = ", ".join(f"{k} {v}" for k, v in told.reference.items())
    table = (
        "<div class=scroll><table><thead><tr><th>policy</th><th>return</th><th>95 % interval</th><th>score</th>"
        f"<th>gain over hold</th><th>episodes</th><th>where from</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    caption = (
        "Dots are means, bars 95 % intervals. Gains are paired: both policies lived through the same worlds, which neither "
        "had seen. Score: random is 0, the reference, which sees the true state, is 100; both means come from "
        f"REFERENCE.json, which was prepared beforehand ({made})."
    )
    drawings = (page.figure(chart, caption=caption), _state(told))
    return page.section("scores", title="How good is it?", parts=(table, *drawings))


def _state(told: Story) -> str:
    """The env itself, as it draws its state."""
    data = base64.b64encode(told.picture).decode()
    return page.figure(
        f'<img alt="The state of {escape(told.env)} under the trained policy" src="data:image/png;base64,{data}">',
        caption="The network under the trained policy, ten hours into one of those worlds, as the environment draws it.",
    )


def _gain_text(row: Score) -> str:
    if row.gain is None:
        return ""
    mean, low, high = row.gain
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _learning(told: Story) -> str:
    learning = told.learning
    curve = [(s / 1000, r) for s, r in zip(learning.steps, learning.returns, strict=True) if r is not None]
    heuristic = told.score("hold")
    values = [r for _, r in curve] + ([heuristic.mean] if heuristic else [])
    chart = plots.Chart(
        x=plots.spanning("environment steps, thousands", [s for s, _ in curve], zero=True, pad=0.0),
        y=plots.spanning("return of an episode", values),
        title="Mean return of the last 100 training episodes over environment steps",
        right=90,
    )
    if heuristic:
        chart.level(heuristic.mean, colour="champion", label=f"the heuristic, {heuristic.mean:.2f}", at_end=True)
    chart.line(plots.thinned(curve), colour="challenger", label="training")
    rate = learning.total_steps / learning.seconds if learning.seconds > 0 else 0.0
    caption = (
        f"{learning.algorithm.upper()}: {learning.total_steps:,} environment steps and {learning.episodes:,} episodes in "
        f"{learning.seconds:.1f} s ({rate:,.0f} steps/s). The line is the true mean of the last 100 episodes, with the noise "
        "that exploration adds; the score above is without it, on fresh worlds."
    )
    drawing = page.figure(chart.svg(), caption=caption)
    return page.section("learning", title="How did it learn?", parts=(drawing,))


def _front(front: Mapping[str, Any]) -> str:
    objectives = [(o["name"], o["unit"], o["direction"]) for o in front["objectives"]]
    base = next((i for i, (name, _, _) in enumerate(objectives) if name == "energy"), 0)
    found = read(front)
    figures = "".join(f"<div>{fronts.plane(found, x=base, y=i)}</div>" for i in range(len(objectives)) if i != base)
    trace = fronts.trace(found, height=300)
    head = "".join(f"<th>{escape(n)}<small> {escape('' if u == '1' else u)} {d}</small></th>" for n, u, d in objectives)
    points = {"chosen by TOPSIS": front["chosen"]["objectives"], **front["anchors"]}
    rows = "".join(
        f"<tr{' class=chosen' if i == 0 else ''}><th scope=row>{escape(name)}</th>"
        # By name: a document that went through a database has its keys in another order.
        f"{''.join(f'<td>{page.number(values[n])}</td>' for n, _, _ in objectives)}</tr>"
        for i, (name, values) in enumerate(points.items())
    )
    table = f"<div class=scroll><table><thead><tr><th>point</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    weights = ", ".join(f"{n} {front['weights'][n]:g}" for n, _, _ in objectives)
    caption = (
        f"{front['front_size']:,} points of which none beats another, from {front['evaluations']:,} evaluations in "
        f"{front['seconds']:.1f} s (NSGA-III, {front['generations']:,} generations, seed {front['seed']}); hypervolume "
        f"{front['hypervolume']:.4f}. The diamond is chosen by TOPSIS (weights: {weights}). Rings are settings an engineer "
        "would try first: even power, and WMMSE for throughput alone. Every power of every cell and resource block is a variable."
    )
    parts = (
        f"<figure><div class=grid3>{figures}<div>{trace}</div></div><figcaption>{escape(caption)}</figcaption></figure>",
    )
    return page.section("front", title="What else could the network be?", parts=(*parts, table))


def _facts(told: Story) -> str:
    whole = max(sum(s for _, s in told.phases), 1e-9)
    bars = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{seconds:.1f} s</td>"
        f'<td class=bar><i style="width:{100 * seconds / whole:.1f}%"></i></td></tr>'
        for name, seconds in told.phases
    )
    pairs = {"seed": str(told.seed), "env": told.env, "mode": told.mode, **told.machine, **told.versions}
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items())
    note = (
        "<p>Everything on this page was measured in this run, apart from the rows marked as prepared beforehand. "
        "quickstart.json beside it holds the same figures unrounded.</p>"
    )
    return page.section(
        "facts",
        title="The run itself",
        parts=(f"<table class=phases><tbody>{bars}</tbody></table><dl>{facts}</dl>{note}",),
    )
