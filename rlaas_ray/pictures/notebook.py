"""A front as a piece of a notebook: HTML with its own style, in the colours of the notebook's theme. No script: cells are kept.

Called by the SDK for results and for searches that run. What is drawn is also there as a table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rlaas_ray.pictures import chart, fronts, page, parallel, space, style
from rlaas_ray.pictures.found import Found, finite, read

_PIECE = ".rlaas"
# The themes of JupyterLab and VS Code say on the body which they are; else the reader's own choice holds.
_THEMES = "".join(
    f"{body} {_PIECE}{{{colours}}}"
    for colours, bodies in (
        (style.DARK, ('body[data-jp-theme-light="false"]', "body.vscode-dark")),
        (style.LIGHT, ('body[data-jp-theme-light="true"]', "body.vscode-light")),
    )
    for body in bodies
)
_LAYOUT = """
.rlaas{background:var(--paper);color:var(--ink);padding:.8rem 1rem;border-radius:.5rem;max-width:58rem;
font:14px/1.5 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.rlaas svg{display:block;width:100%;height:auto;overflow:visible}.rlaas p{margin:.2rem 0 .6rem}
.rlaas .row{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1rem;align-items:start}
.rlaas small,.rlaas summary{color:var(--soft)}.rlaas details div{max-height:20rem;overflow:auto}
.rlaas table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:12px;background:none}
.rlaas th,.rlaas td{text-align:right;padding:.15rem .6rem;border-bottom:1px solid var(--rule);color:var(--ink);background:none}
"""
CSS = style.colours(_PIECE) + _THEMES + _LAYOUT + style.DRAWN


def result(document: Mapping[str, Any]) -> str:
    """The result of a search."""
    found = read(document)
    summary = str(document.get("summary") or f"{len(found.rows):,} points")
    chosen = f"<small>Chosen: {escape(found.reason)}</small>" if found.reason else ""
    pictures = [
        *_wide(found),
        *([f'<div class="row">{_cube(found)}{fronts.trace(found, height=300)}</div>'] if found.trace else []),
    ]
    return _piece(f"<p>{escape(summary)}</p>", *pictures, chosen, _table(found))


def front(document: Mapping[str, Any]) -> str:
    """A front without its story: what `client.optimization.front` gives, or the bare rows of a result."""
    found = read(document)
    return _piece(f"<p>{escape(_size(found))}</p>", *_wide(found), _table(found))


def moment(event: Mapping[str, Any], *, trace: Sequence[tuple[float, float]] = ()) -> str:
    """A search that runs: its newest `front` event, and (generation, hypervolume) of those before."""
    found = dataclasses.replace(read(event), trace=tuple(trace))
    volume = finite(event.get("hypervolume"))
    words = f"generation {event.get('generation', '?')}: {_size(found)}"
    words += "" if volume is None else f", hypervolume {volume:.4f}"
    ideal = f"<p><small>Best of each so far: {escape(found.named(found.bests))}</small></p>" if found.rows else ""
    drawn = _wide(found)
    if trace:
        drawn.append(fronts.trace(found, width=chart.WIDTH, height=180))
    return _piece(f"<p>{escape(words)}</p>", *drawn, ideal)


def waiting(words: str) -> str:
    """There is nothing to draw yet."""
    return _piece(f"<p>{escape(words)}</p>")


def _wide(found: Found) -> list[str]:
    """The picture of all objectives: a plane for two, parallel coordinates for more."""
    if not found.rows:
        return []
    if len(found.objectives) == 2:
        return [fronts.plane(found, width=chart.WIDTH, height=360)]
    return [parallel.coordinates(found, height=320)]


def _cube(found: Found) -> str:
    return space.cube(found, columns=found.heaviest[:3]) if len(found.objectives) > 2 else ""


def _size(found: Found) -> str:
    told = found.facts.get("front_size")
    size = told if isinstance(told, int) else len(found.rows)
    return f"{size:,} point{'' if size == 1 else 's'} of which none beats another"


def _table(found: Found) -> str:
    if not found.rows:
        return ""
    heads = "".join(f'<th scope="col">{escape(o.label)} ({o.direction})</th>' for o in found.objectives)
    rows = "".join(
        f'<tr><th scope="row">{key}</th>{"".join(f"<td>{page.number(v)}</td>" for v in values)}</tr>'
        for key, values in found.rows
    )
    return (
        f"<details><summary>{len(found.rows):,} points as a table</summary><div><table>"
        f"<thead><tr><th>point</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _piece(*parts: str) -> str:
    return f'<div class="rlaas"><style>{CSS}</style>{"".join(parts)}</div>'
