"""The report of a search: one HTML page that needs nothing else, made of its result and of the fronts that it told of.

Called by the attempt that has searched (it lies beside the run) and by `rlaas runs report`. Shows what the document holds and
nothing more; never computes a front or a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rlaas_ray.pictures import chart, fronts, page, parallel, script, space, style
from rlaas_ray.pictures.found import Found, Point, finite, read

FILE = "report.html"
_IDLE = "Point at a picture: the same point is marked in all of them. A click keeps it, Escape lets it go."
_FACTS = {
    "problem": "problem",
    "algorithm": "algorithm",
    "mode": "mode",
    "seed": "seed",
    "generations": "generations",
    "evaluations": "evaluations",
    "failed": "failed evaluations",
    "seconds": "seconds",
    "ended_because": "ended because",
    "hypervolume": "hypervolume",
    "hypervolume_raw": "hypervolume, units of the objectives",
}


def render(
    result: Mapping[str, Any],
    *,
    events: Sequence[Mapping[str, Any]] | None = None,
    choices: Sequence[Mapping[str, Any]] = (),
    run_id: str = "",
) -> str:
    """The page. `result`: the document of a run of kind optimize, or a `front` event of one that runs.

    `events`: data of its `front` events, oldest first; else the moments that the result itself has kept. `choices`: points
    taken from it later, oldest first.
    """
    found = read(result)
    events = _kept(result) if events is None else events
    title = f"{result.get('problem') or 'A search'}: {_headline(found)}"
    body = (
        _hero(found, run_id=run_id),
        _front(found),
        _choice(found, choices=choices),
        _growth(found, events=events),
        _points(found),
        _facts(found),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style.CSS}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{script.SCRIPT}</script></body></html>\n"
    )


def _headline(found: Found) -> str:
    size = found.facts.get("front_size")
    count = size if isinstance(size, int) else len(found.rows)
    if not count:
        return "no point was found"
    return f"{count:,} point{'' if count == 1 else 's'} of which none beats another"


def _hero(found: Found, *, run_id: str) -> str:
    facts, cards = found.facts, []
    if found.hypervolume is not None:
        cards.append(("Hypervolume", f"{found.hypervolume:.4f}", _measure(found)))
    size = facts.get("front_size")
    told = f"{size:,}" if isinstance(size, int) else f"{len(found.rows):,}"
    cards.append(("Front", told, f"points; {len(found.rows):,} of them are drawn"))
    if isinstance(facts.get("evaluations"), int):
        generations = facts.get("generations")
        note = f"in {generations:,} generations" if isinstance(generations, int) else ""
        cards.append(("Evaluations", f"{facts['evaluations']:,}", note))
    seconds = finite(facts.get("seconds"))
    if seconds is not None:
        cards.append(("Time", f"{seconds:.1f} s", str(facts.get("ended_because") or "")))
    shown = "".join(
        f'<div class="card"><span>{escape(name)}</span><strong>{escape(value)}</strong><small>{escape(note)}</small></div>'
        for name, value, note in cards
    )
    goals = ", ".join(f"{'least' if o.less else 'most'} {o.label}" for o in found.objectives)
    kicker = " · ".join(("RLaaS on Ray", "search", *([run_id] if run_id else ())))
    return (
        f'<header id="summary"><p class="kicker">{escape(kicker)}</p>'
        f"<h1>{escape(str(facts.get('problem') or 'A search'))}: {escape(_headline(found))}</h1>"
        f'<p class="lead">Wanted: {escape(goals or "nothing that was told")}.</p><div class="cards">{shown}</div></header>'
    )


def _measure(found: Found) -> str:
    raw = finite(found.facts.get("hypervolume_raw"))
    if raw is not None and raw == found.hypervolume:
        return "in units of the objectives, from the front to the reference point"
    return "share of the box from ideal to nadir that the front dominates"


def _front(found: Found) -> str:
    if not found.rows:
        return page.section("front", title="The front", parts=("<p>There is no point to draw.</p>",))
    parts = [f'<output aria-live="polite" data-idle="{escape(_IDLE, quote=True)}">{escape(_IDLE)}</output>']
    marks = "The diamond is the chosen point" + (", rings are settings to compare with." if found.anchors else ".")
    pairs = fronts.planes(found)
    if len(pairs) == 1:
        drawing = fronts.plane(found, width=chart.WIDTH, height=420)
        parts.append(page.figure(drawing, caption=f"{marks} The line is what the points attain together."))
    if len(found.objectives) > 2:
        caption = "A line is a point. Every axis has its own unit, and its better end is up. " + (
            "The chosen point is the thick line with diamonds"
            + ("; dashed lines are settings to compare with." if found.anchors else ".")
        )
        parts.append(page.figure(parallel.coordinates(found), caption=caption))
        parts.append(page.figure(space.cube(found, columns=found.heaviest[:3]), caption=_turned(found)))
        planes = "".join(f"<div>{fronts.plane(found, x=x, y=y)}</div>" for x, y in pairs)
        words = f"Two objectives at a time: what is best here may be bad in another. Arrows point to the better end. {marks}"
        parts.append(f'<figure><div class="grid3">{planes}</div><figcaption>{escape(words)}</figcaption></figure>')
    return page.section("front", title="The front", parts=parts)


def _turned(found: Found) -> str:
    words = "Drag to turn it, or use the arrow keys. Nearer points are larger and stronger; the dashed line falls to the floor."
    more = " The three objectives of the largest weights are shown." if len(found.objectives) > 3 else ""
    return words + more


def _choice(found: Found, *, choices: Sequence[Mapping[str, Any]]) -> str:
    if found.chosen is None:
        return ""
    rows: list[tuple[str, Point, str]] = [("chosen", found.chosen, ' class="chosen"')]
    later = [(_name(one), found.point((one.get("chosen") or {}).get("objectives")), one) for one in choices]
    rows += [(name, point, "") for name, point, _ in later if point is not None]
    rows += [(name, values, "") for name, values in found.anchors.items()]
    if found.rows:
        rows.append(("best of each", found.bests, ""))
    lines = "".join(
        f'<tr{mark}><th scope="row">{escape(name)}</th>{"".join(f"<td>{page.number(v)}</td>" for v in values)}</tr>'
        for name, values, mark in rows
    )
    table = f'<div class="scroll"><table>{_head(found, first="point")}<tbody>{lines}</tbody></table></div>'
    told = found.reason[:1].upper() + found.reason[1:]
    size = found.facts.get("front_size")
    if isinstance(size, int) and size > len(found.rows) and told.startswith("Point "):
        told += f" (Points are counted in the whole front, of which {len(found.rows):,} are drawn.)"
    reasons = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(one.get('reason') or ''))}</dd>" for name, _, one in later
    )
    parts = (f"<p>{escape(told)}</p>", table, f"<dl>{reasons}</dl>" if reasons else "")
    return page.section("choice", title="The chosen point", parts=parts)


def _name(choice: Mapping[str, Any]) -> str:
    """A later choice, by how it was made."""
    return f"by {choice.get('method') or choice.get('rule') or 'choice'}, event {choice.get('seq', '?')}"


def _growth(found: Found, *, events: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    if found.trace:
        caption = "Of all points found up to then, without the anchors. Where the line is flat, more of the same finds little."
        parts.append(page.figure(fronts.trace(found, width=chart.WIDTH), caption=caption))
    moments = fronts.growth(found, events=events)
    if moments:
        panels = "".join(f"<div>{drawing}<small>{escape(words)}</small></div>" for words, drawing in moments)
        caption = "Moments of the search, on the same axes; grey is where it ended. Arrows point to the better end."
        parts.append(f'<figure><div class="three">{panels}</div><figcaption>{caption}</figcaption></figure>')
    return page.section("growth", title="How it got there", parts=parts) if parts else ""


def _kept(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The moments that a result has kept, and its own front as the last."""
    told = result.get("growth")
    moments = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
    last = {name: result.get(name) for name in ("front", "hypervolume")}
    return [*moments, {**last, "generation": result.get("generations")}] if moments else []


def _head(found: Found, *, first: str) -> str:
    cells = "".join(
        f'<th scope="col">{escape(o.name)}<small> {escape("" if o.unit == "1" else o.unit)} {o.direction}</small></th>'
        for o in found.objectives
    )
    return f'<thead><tr><th scope="col">{first}</th>{cells}</tr></thead>'


def _points(found: Found) -> str:
    """Every point that is drawn, as a table: what the pictures say, for who cannot see them."""
    if not found.rows:
        return ""
    lines = "".join(
        f'<tr data-i="{key}"{" class=chosen" if key == found.chosen_index else ""}><th scope="row">{key}</th>'
        f"{''.join(f'<td>{page.number(v)}</td>' for v in values)}</tr>"
        for key, values in found.rows
    )
    table = f'<div class="scroll"><table>{_head(found, first="point")}<tbody>{lines}</tbody></table></div>'
    return page.section(
        "points",
        title="Every point drawn",
        parts=(f"<details><summary>{len(found.rows):,} points</summary>{table}</details>",),
    )


def _facts(found: Found) -> str:
    pairs = {words: found.facts[name] for name, words in _FACTS.items() if found.facts.get(name) is not None}
    weights = ", ".join(f"{o.name} {w:g}" for o, w in zip(found.objectives, found.weights, strict=True))
    told = {**pairs, "weights of the choice": weights} if any(found.weights) else pairs
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_shown(value))}</dd>" for name, value in told.items())
    return page.section("facts", title="The run itself", parts=(f"<dl>{facts}</dl>",))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
