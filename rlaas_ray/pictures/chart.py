"""Charts as inline SVG: lines, steps, bands, dots, intervals. Colours are CSS variables: dark mode is the page's.

Called by the reports and the pictures of fronts. Written by hand, not by a plotting library: real text, few kB, nothing to load.
Never reads a file and never rounds what the tables show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from rlaas_ray.pictures import labels

Points = Sequence[tuple[float, float]]
WIDTH = 820.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 16.0, 14.0, 44.0
_LEAST_GAP = 13.0  # between two labels at the right edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A labelled range; `log` has decades as ticks."""

    label: str
    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Position in [0, 1], clipped."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, value))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def ticks(self) -> list[float]:
        """A few round values in the range."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, -(-(last - first) // 6))
            decades = [10.0**k for k in range(first, last + 1, every)]
            if len(decades) > 2:
                return decades
            fine = [f * 10.0**k for k in range(first - 1, last + 1) for f in (1, 2, 5)]
            return [t for t in fine if self.low <= t <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value


def spanning(label: str, values: Sequence[float], *, log: bool = False, pad: float = 0.06, zero: bool = False) -> Axis:
    """The axis that shows all values with a little room. `zero` keeps 0 in view."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [0.1 if log else 0.0, 1.0]
    if zero:
        finite = [*finite, 0.0]
    low, high = min(finite), max(finite)
    if high - low < 1e-9 * max(abs(low), abs(high)):  # one value, but for rounding: ticks would all read the same
        low = high = (low + high) / 2
    if log:
        room = max((high / low) ** pad, 1.05)
        return Axis(label=label, low=low / room, high=high * room, log=True)
    room = (high - low) * pad or max(abs(high), 1.0) * 0.1
    return Axis(label=label, low=0.0 if zero and low == 0 else low - room, high=high + room)


@dataclass(slots=True, kw_only=True)
class Chart:
    """Marks on two axes; `svg()` is the drawing. Marks are drawn in the order in which they were added."""

    x: Axis
    y: Axis
    title: str
    height: float = 260.0
    width: float = WIDTH
    _marks: list[str] = field(default_factory=list)
    _labels: list[tuple[float, str, str]] = field(default_factory=list)
    _names: list[labels.Label] = field(default_factory=list)
    right: float = _RIGHT

    def line(self, points: Points, *, colour: str, label: str = "", dashed: bool = False) -> None:
        """A line through finite points; its label stands at its end."""
        shown = [p for p in points if all(map(math.isfinite, p))]
        if shown:
            path = " ".join(f"{'L' if i else 'M'}{self._px(a)} {self._py(b)}" for i, (a, b) in enumerate(shown))
            self._marks.append(
                f'<path class="line{" dashed" if dashed else ""}" style="stroke:var(--{colour})" d="{path}"/>'
            )
            self._label(shown[-1][1], text=label, colour=colour)

    def steps(self, points: Points, *, colour: str, label: str = "", fill: bool = False) -> None:
        """Constant from each point to the next."""
        if not points:
            return
        path = f"M{self._px(points[0][0])} {self._py(points[0][1])}"
        for a, b in points[1:]:
            path += f"H{self._px(a)}V{self._py(b)}"
        if fill:
            floor = self._py(max(self.y.low, 0.0))
            closed = f"{path}V{floor}H{self._px(points[0][0])}Z"
            self._marks.append(f'<path class="area" style="fill:var(--{colour})" d="{closed}"/>')
        self._marks.append(f'<path class="line" style="stroke:var(--{colour})" d="{path}"/>')
        self._label(points[-1][1], text=label, colour=colour)

    def band(self, rows: Sequence[tuple[float, float, float]], *, colour: str) -> None:
        """Between two curves; rows of (x, low, high)."""
        if len(rows) > 1:
            upper = [f"{self._px(a)} {self._py(high)}" for a, _, high in rows]
            lower = [f"{self._px(a)} {self._py(low)}" for a, low, _ in reversed(rows)]
            self._marks.append(f'<path class="band" style="fill:var(--{colour})" d="M{" L".join(upper + lower)}Z"/>')

    def whiskers(self, rows: Sequence[tuple[float, float, float]], *, colour: str) -> None:
        """A vertical bar for each row of (x, low, high)."""
        path = "".join(f"M{self._px(a)} {self._py(low)}V{self._py(high)}" for a, low, high in rows)
        self._marks.append(f'<path class="fine" style="stroke:var(--{colour})" d="{path or "M0 0"}"/>')

    def level(self, value: float, *, colour: str, label: str, at_end: bool = False) -> None:
        """A dashed horizontal limit with its name above it, at the left or at the right end."""
        if self.y.low <= value <= self.y.high:
            y = self._py(value)
            x, anchor = (self.width - self.right - 6, "end") if at_end else (_LEFT + 6, "start")
            self._marks.append(
                f'<path class="level" style="stroke:var(--{colour})" d="M{_LEFT} {y}H{self.width - self.right:.1f}"/>'
                f'<text class="mark" style="fill:var(--{colour})" text-anchor="{anchor}" x="{x:.1f}" y="{float(y) - 5:.1f}">'
                f"{escape(label)}</text>"
            )

    def moment(self, at: float, *, label: str, colour: str = "muted") -> None:
        """A vertical line with a word at its top."""
        x = self._px(at)
        left = float(x) > self.width * 0.72
        self._marks.append(
            f'<path class="level" style="stroke:var(--{colour})" d="M{x} {_TOP}V{self.height - _BOTTOM:.1f}"/>'
            f'<text class="mark" style="fill:var(--{colour})" text-anchor="{"end" if left else "start"}" '
            f'x="{float(x) + (-5 if left else 5):.1f}" y="{_TOP + 10}">{escape(label)}</text>'
        )

    def dots(self, points: Points, *, colour: str, radius: float = 2.2, keys: Sequence[int] | None = None) -> None:
        """Small discs; `keys` mark each with the point that it stands for."""
        told = [""] * len(points) if keys is None else [f' data-i="{key}"' for key in keys]
        circles = "".join(
            f'<circle{mark} cx="{self._px(a)}" cy="{self._py(b)}" r="{radius}"/>'
            for (a, b), mark in zip(points, told, strict=True)
        )
        self._marks.append(f'<g class="dots" style="fill:var(--{colour})">{circles}</g>')

    def star(self, at: tuple[float, float], *, colour: str, label: str, ring: bool = False) -> None:
        """One point that matters, with its name: a filled diamond, or a ring."""
        x, y = float(self._px(at[0])), float(self._py(at[1]))
        self._marks.append(ring_at(x, y, colour=colour) if ring else diamond_at(x, y, colour=colour))
        if label:
            self._names.append(labels.Label(x=x, y=y, text=label, colour=colour))

    def svg(self) -> str:
        """The drawing, with its title for who does not see it."""
        box = (_LEFT, _TOP, self.width - 4, self.height - _BOTTOM)
        return (
            f"{opening(self.width, self.height, title=self.title)}"
            f"{self._frame()}{''.join(self._marks)}{self._placed_labels()}{''.join(labels.placed(self._names, box=box))}</svg>"
        )

    def _frame(self) -> str:
        bottom, right = self.height - _BOTTOM, self.width - self.right
        parts = []
        for tick in self.y.ticks():
            y = self._py(tick)
            parts.append(
                f'<path class="grid" d="M{_LEFT} {y}H{right:.1f}"/>'
                f'<text class="tick" text-anchor="end" x="{_LEFT - 7}" y="{float(y) + 4:.1f}">{shown(tick)}</text>'
            )
        parts += [
            f'<text class="tick" text-anchor="middle" x="{self._px(tick)}" y="{bottom + 16:.1f}">{shown(tick)}</text>'
            for tick in self.x.ticks()
        ]
        parts.append(f'<path class="axis" d="M{_LEFT} {bottom:.1f}H{right:.1f}"/>')
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text class="name" text-anchor="middle" x="{middle:.1f}" y="{self.height - 8:.1f}">{escape(self.x.label)}</text>'
        )
        turned = f"translate(14 {(_TOP + bottom) / 2:.1f}) rotate(-90)"
        parts.append(f'<text class="name" text-anchor="middle" transform="{turned}">{escape(self.y.label)}</text>')
        return "".join(parts)

    def _placed_labels(self) -> str:
        # Names at the right edge, pushed apart from the top down so that none covers another.
        out, last = [], -math.inf
        for y, text, colour in sorted(self._labels):
            last = max(y, last + _LEAST_GAP)
            out.append(
                f'<text class="end" style="fill:var(--{colour})" x="{self.width - self.right + 6:.1f}" y="{last + 4:.1f}">'
                f"{escape(text)}</text>"
            )
        return "".join(out)

    def _label(self, value: float, *, text: str, colour: str) -> None:
        if text:
            self._labels.append((float(self._py(value)), text, colour))

    def _px(self, value: float) -> str:
        return f"{_LEFT + self.x.at(value) * (self.width - self.right - _LEFT):.1f}"

    def _py(self, value: float) -> str:
        return f"{_TOP + (1 - self.y.at(value)) * (self.height - _BOTTOM - _TOP):.1f}"


def intervals(rows: Sequence[tuple[str, float, float, float, str]], *, title: str, label: str) -> str:
    """One row each: name, mean, low, high, colour; means as dots, intervals as bars."""
    axis = spanning(label, [v for _, m, low, high, _ in rows for v in (m, low, high)])
    top, gap, left, right = 10.0, 30.0, 150.0, 24.0
    height = top + gap * len(rows) + 40

    def px(value: float) -> float:
        return left + axis.at(value) * (WIDTH - left - right)

    floor = top + gap * len(rows)
    parts = [
        f'<path class="grid" d="M{px(tick):.1f} {top}V{floor:.1f}"/>'
        f'<text class="tick" text-anchor="middle" x="{px(tick):.1f}" y="{floor + 16:.1f}">{shown(tick)}</text>'
        for tick in axis.ticks()
    ]
    for i, (name, mean, low, high, colour) in enumerate(rows):
        y = top + gap * (i + 0.5)
        parts.append(
            f'<text class="row" text-anchor="end" x="{left - 12}" y="{y + 4:.1f}">{escape(name)}</text>'
            f'<path class="whisker" style="stroke:var(--{colour})" d="M{px(low):.1f} {y:.1f}H{px(high):.1f}"/>'
            f'<circle style="fill:var(--{colour})" cx="{px(mean):.1f}" cy="{y:.1f}" r="5"/>'
        )
    middle = (left + WIDTH - right) / 2
    parts.append(
        f'<text class="name" text-anchor="middle" x="{middle:.1f}" y="{height - 6:.1f}">{escape(label)}</text>'
    )
    return f"{opening(WIDTH, height, title=title)}{''.join(parts)}</svg>"


def opening(width: float, height: float, *, title: str) -> str:
    """The tag that every drawing begins with."""
    return f'<svg class="drawn" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title, quote=True)}">'


def diamond_at(x: float, y: float, *, colour: str, size: float = 7.0) -> str:
    """A filled diamond: the point that was chosen."""
    shape = f"M{x:.1f} {y - size:.1f}l{size} {size}l{-size} {size}l{-size} {-size}z"
    return f'<path class="star" style="fill:var(--{colour});stroke:var(--paper)" d="{shape}"/>'


def ring_at(x: float, y: float, *, colour: str) -> str:
    """A ring: a point to compare with."""
    return f'<circle class="star" style="fill:var(--paper);stroke:var(--{colour})" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def shown(value: float) -> str:
    """A tick in few characters: 1,200 and 0.05 and 10k."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100_000:
        return f"{value / 1000:,.0f}k"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-4 else f"{value:.0e}"


def thinned(points: Points, *, most: int = 400) -> list[tuple[float, float]]:
    """Evenly fewer points, the last kept: a drawing 820 wide gains nothing from thousands."""
    every = max(1, -(-len(points) // most))
    kept = list(points[::every])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(f * power for f in (1, 2, 5, 10) if f * power >= rough * 0.999)
