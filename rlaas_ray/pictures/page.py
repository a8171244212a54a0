"""The pieces that every section of a report is made of. Called by the reports of a quickstart and of a search; knows no story."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any


def section(key: str, *, title: str, parts: Sequence[str]) -> str:
    """A section with its heading; parts are HTML."""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def figure(drawing: str, *, caption: str) -> str:
    """A drawing (HTML) with its caption (text)."""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def plain(value: Any) -> str:
    """A value of a spec: lists with strokes."""
    return "/".join(f"{v:g}" for v in value) if isinstance(value, list | tuple) else f"{value}"


def number(value: float) -> str:
    """A figure of a table: four digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
