"""`rlaas completion`: the script that a shell loads. Words only: no server is asked while you type."""

from __future__ import annotations

import click
from click import shell_completion


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script of a shell."""
    from rlaas_ray.cli.main import rlaas

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    click.echo(kind(rlaas, {}, "rlaas", "_RLAAS_COMPLETE").source())
