"""A drawing as a file of its own: `<svg>` with its colours, light and dark, on its own paper. Used for the pictures of pages."""

from __future__ import annotations

import re
from html import escape

from rlaas_ray.pictures import style

_OPENING = re.compile(r'<svg class="drawn" viewBox="0 0 ([\d.]+) ([\d.]+)"([^>]*)>')


def standing(drawing: str, *, title: str = "") -> str:
    """The drawing with namespace, size, style and paper; `title` is drawn above it."""
    found = _OPENING.match(drawing)
    assert found is not None, "every drawing begins with chart.opening"
    width, height, more = float(found[1]), float(found[2]), found[3]
    head = 30.0 if title else 8.0
    shown = f'<text class="head" x="16" y="21">{escape(title)}</text>' if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawn" width="{width:g}" height="{height + head:g}" '
        f'viewBox="0 {-head:g} {width:g} {height + head:g}"{more}>'
        f"<style>{style.colours('.drawn')}{style.DRAWN}</style>"
        f'<rect y="{-head:g}" width="{width:g}" height="{height + head:g}" style="fill:var(--paper)"/>'
        f'<g transform="translate(0 {-head:g})">{shown}</g>{drawing[found.end() :]}\n'
    )
