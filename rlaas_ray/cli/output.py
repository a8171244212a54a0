"""What commands print: data on stdout (a table for people, `--json` or `--jsonl` for programs), the rest on stderr.

Called by every command. Loads rich only to draw a bar on a terminal. Never prints progress on stdout.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from rlaas_ray import settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_PLAIN_EVERY_S = 5.0
_answered = False


def json_option(command: CommandT) -> CommandT:
    """`--json`: one document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def jsonl_option(command: CommandT) -> CommandT:
    """`--jsonl`: one object per line."""
    return click.option("--jsonl", "as_jsonl", is_flag=True, help="Print one JSON object per line.")(command)


def document(value: Any) -> None:
    """One JSON document; what fails after it adds none: `answered` says that it is there."""
    global _answered  # noqa: PLW0603 - one process, one stdout
    _answered = True
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=str))


def answered() -> bool:
    """Whether this command's document is on stdout already: the work's own, which says that it failed."""
    return _answered


def line(value: Any) -> None:
    """One JSON object on a line of its own, at once."""
    click.echo(json.dumps(value, default=str))
    sys.stdout.flush()


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as aligned columns; `columns` maps a title to a (dotted) key."""
    cells = [[_shown(_at(row, key)) for key in columns.values()] for row in rows]
    heads = [title.upper() for title in columns]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    for row in [heads, *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def facts(value: Mapping[str, Any], *, indent: int = 0) -> None:
    """A document as `name  value` lines for people, nested where it is."""
    width = max((len(str(name)) for name in value), default=0)
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            click.echo(f"{'  ' * indent}{name}:")
            facts(item, indent=indent + 1)
        else:
            click.echo(f"{'  ' * indent}{str(name).ljust(width)}  {_shown(item, width=400)}")


def say(words: str) -> None:
    """A message for people, on stderr."""
    click.echo(words, err=True)


def when(time_us: int | None) -> str:
    """A time for people, UTC."""
    if time_us is None:
        return "-"
    return dt.datetime.fromtimestamp(time_us / 1e6, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return "-"
    whole = round(value)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class Bar:
    """Progress: a bar with rate and ETA on a terminal, plain lines at least 5 s apart elsewhere. On stderr."""

    counts = "steps"

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._told_s = float("-inf")
        self._last = ""
        self._drawn: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        plain = not sys.stderr.isatty() or settings.variable("TERM") == "dumb" or settings.variable("NO_COLOR")
        if not self._quiet and not plain:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}% {task.fields[words]}"),
            )
            self._drawn = Progress(*columns, console=Console(stderr=True), transient=False)
            self._drawn.start()
            self._task = self._drawn.add_task(self._title, total=1.0, words="")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()
        elif self._last and not self._quiet:
            say(self._last)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Show a progress document of the API."""
        words = described(progress, counts=self.counts)
        fraction = float(progress.get("fraction") or 0.0)
        if self._drawn is not None:
            self._drawn.update(self._task, completed=fraction, words=words)
            return
        text = f"{self._title} {fraction:4.0%} {words}"
        if not self._quiet and time.monotonic() - self._told_s >= _PLAIN_EVERY_S:
            say(text)
            self._told_s, self._last = time.monotonic(), ""
        else:
            self._last = text


def described(progress: Mapping[str, Any], *, counts: str = "steps") -> str:
    """Steps (or what else the run counts), rate, return and ETA in one line."""
    parts = []
    if progress.get("steps"):
        total = progress.get("steps_total")
        parts.append(f"{progress['steps']:,}{f'/{total:,}' if total else ''} {counts}")
    if progress.get("steps_per_s"):
        rate = progress["steps_per_s"]
        parts.append(f"{rate:,.0f}/s" if rate >= 1 else f"{60 * rate:.3g}/min")
    if progress.get("episode_return_mean") is not None:
        parts.append(f"return {progress['episode_return_mean']:.4g}")
    if progress.get("eta_s") is not None:
        parts.append(f"ETA {seconds(progress['eta_s'])}")
    if progress.get("message"):
        parts.append(str(progress["message"]))
    return "  ".join(parts)


def _at(row: Mapping[str, Any], key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return when(value) if key.endswith("_us") and (value is None or isinstance(value, int)) else value


def _shown(value: Any, *, width: int = 60) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def pause(seconds: float) -> None:
    """Wait between two looks."""
    settings.SystemClock().sleep(seconds)
