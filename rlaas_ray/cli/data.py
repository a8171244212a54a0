"""`rlaas data`: decisions that others logged, as a decision log of ours."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from rlaas_ray import settings
from rlaas_ray.cli import output
from rlaas_ray.errors import NotBuilt


@click.group()
def data() -> None:
    """Logged data of others: import."""


@data.command("import")
@click.argument("form", metavar="FORMAT", type=click.Choice(["open-bandit", "csv", "parquet"]))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--to", "target", type=click.Path(file_okay=False, path_type=Path), help="[the log of this home]")
@click.option("--map", "mapping", type=click.Path(path_type=Path), help="For csv and parquet, which are not built.")
@output.json_option
def import_(*, form: str, path: Path, target: Path | None, mapping: Path | None, as_json: bool) -> None:
    """Write published files (open-bandit) into a decision log."""
    if form != "open-bandit" or mapping is not None:
        raise NotBuilt(
            f"import of {form}{' with a map' if mapping else ''}",
            given=str(path),
            expected="open-bandit, which needs no map",
            cure="Offline training reads Parquet with its own columns where it lies: docs/offline.md names them.",
        )
    from rlaas_ray.data import open_bandit

    root = Path((str(target) if target else settings.read().data).removeprefix("file://"))
    output.say(open_bandit.ATTRIBUTION)
    with output.Bar("import", quiet=as_json) as bar:
        done = open_bandit.load(path, root=root, told=lambda w, f: bar.tell({"message": w, "fraction": f}))
    items = [{**asdict(one), "path": str(one.path)} for one in done]
    if as_json:
        output.document({"root": str(root), "attribution": open_bandit.ATTRIBUTION, "items": items})
        return
    names = ("endpoint", "arm", "rows", "clicks", "items", "observation")
    output.table(items, {name: name for name in names})
    output.say(f"log: {root}")
