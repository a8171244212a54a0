"""The trials of a study under its bar, on a terminal: what each tries, how far it is, its value; the best ones stay.

Used by following.py and attempts.py. Elsewhere than on a terminal it is the plain lines of output.Bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlaas_ray.cli import output
from rlaas_ray.errors import RlaasError
from rlaas_ray.sdk.handles import Study

ROWS = 12


class Below(output.Bar):
    """A bar with more below it on a terminal: what `_below` gives, anew whenever progress is told."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        super().__init__(title, quiet=quiet)
        self._live: Any = None

    def __enter__(self) -> Below:
        super().__enter__()
        if self._drawn is not None:
            from rich.live import Live

            self._drawn.stop()  # the bar is drawn with what is below it
            self._live = Live(self._drawn, console=self._drawn.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._drawn = self._live = None
        super().__exit__(*exc)

    def tell(self, progress: Mapping[str, Any]) -> None:
        super().tell(progress)
        if self._live is None:
            return
        try:
            below = self._below()
        except RlaasError:
            return  # the bar is there; the rest comes back with the server
        from rich.console import Group

        self._live.update(Group(self._drawn, below))

    def _below(self) -> Any:
        """Something that rich can draw."""
        raise NotImplementedError


class Table(Below):
    """The trials of `run`."""

    counts = "trials"

    def __init__(self, title: str, *, quiet: bool, run: Study) -> None:
        super().__init__(title, quiet=quiet)
        self._run = run

    def _below(self) -> Any:
        return drawn(self._run.trials(), maximise=_maximise(self._run.document["spec"]))


def drawn(trials: Sequence[Mapping[str, Any]], *, maximise: bool) -> Any:
    """The running trials, then the best of the others, as a table of rich."""
    from rich.table import Table as Drawn

    shown = chosen(trials, maximise=maximise)
    names = list(dict.fromkeys(name for trial in shown for name in trial["parameters"]))[:6]
    table = Drawn(box=None, pad_edge=False, header_style="bold")
    for head in ("trial", "state", "step", "value", "95 %", "time", *names):
        table.add_column(head, overflow="ellipsis", max_width=24)
    for trial in shown:
        values = ", ".join(f"{value:.5g}" for value in trial["values"] or [])
        ends = trial.get("ci95")
        total = trial.get("steps_total")
        table.add_row(
            str(trial["trial"]),
            trial["state"],
            f"{trial['step']}/{total}" if total else str(trial["step"] or ""),
            values,
            f"{ends[0]:.4g} to {ends[1]:.4g}" if ends else "",
            output.seconds(trial["seconds"]) if trial["seconds"] is not None else "",
            *(_cell(trial["parameters"].get(name)) for name in names),
        )
    return table


def chosen(trials: Sequence[Mapping[str, Any]], *, maximise: bool) -> list[Mapping[str, Any]]:
    """What fits: all that run, then the best of those that have completed."""

    def key(trial: Mapping[str, Any]) -> float:
        value = float(trial["values"][0])
        return -value if maximise else value

    running = [trial for trial in trials if trial["state"] == "running"][-ROWS:]
    done = sorted((t for t in trials if t["state"] != "running" and t["values"]), key=key)
    return [*running, *done[: max(0, ROWS - len(running))]]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _maximise(spec: Mapping[str, Any]) -> bool:
    told = spec.get("objective")
    return bool(told[0]["maximise"]) if isinstance(told, list) else bool(spec.get("maximise", True))
