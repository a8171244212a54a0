"""Which bar shows the progress of a run. Called by whoever follows one."""

from __future__ import annotations

from rlaas_ray.cli import output, searches, trials
from rlaas_ray.sdk.handles import Run, Search, Study


def bar(run: Run, *, title: str, quiet: bool) -> output.Bar:
    """A bar; on a terminal with its trials below for a study, with hypervolume and ideal point for a search."""
    if isinstance(run, Study):
        return trials.Table(title, quiet=quiet, run=run)
    return searches.Growth(title, quiet=quiet, run=run) if isinstance(run, Search) else output.Bar(title, quiet=quiet)
