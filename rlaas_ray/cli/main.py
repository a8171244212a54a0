"""The command `rlaas`: one table of commands, each imported when it runs, and the one place where errors become exit codes.

The console script starts here. `--help` reads the table alone and loads click alone. Never does any work itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from rlaas_ray.errors import Interrupted, RlaasError

# name -> (module, attribute, one line of help); a test compares each line with the command's own help
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("rlaas_ray.cli.quickstart", "quickstart", "The whole loop on a laptop, with a report at the end."),
    "up": ("rlaas_ray.cli.up", "up", "Start the runtime: control API, Ray, policy servers."),
    "down": ("rlaas_ray.cli.down", "down", "Stop the runtime; touches nothing that `up` did not start."),
    "status": ("rlaas_ray.cli.status", "status", "Show what of the runtime lives, and where it answers."),
    "doctor": ("rlaas_ray.cli.doctor", "doctor", "Check this machine and this home; each fault with its cure."),
    "env": ("rlaas_ray.cli.environments", "env", "Environments: list, show, check, bench, score, picture, reference."),
    "algorithms": ("rlaas_ray.cli.algorithms", "algorithms", "Algorithms: list, show, check."),
    "train": ("rlaas_ray.cli.train", "train", "Train a policy, write a bundle, register it."),
    "tune": ("rlaas_ray.cli.tune", "tune", "Search what a training takes; the best policy is registered."),
    "optimize": ("rlaas_ray.cli.optimize", "optimize", "Search for a front of solutions and choose a point."),
    "choose": ("rlaas_ray.cli.choose", "choose", "Take a point of a front, of a search or of a policy, and say why."),
    "evaluate": ("rlaas_ray.cli.evaluate", "evaluate", "Measure a policy on an env over fresh episodes."),
    "runs": ("rlaas_ray.cli.runs", "runs", "Runs: list, show, watch, report, doctor, logs, stop, resume."),
    "models": ("rlaas_ray.cli.models", "models", "Versions: list, show, alias, verify, export, import, delete."),
    "serve": ("rlaas_ray.cli.endpoints", "serve", "Make an endpoint, or replace its champion."),
    "rollout": ("rlaas_ray.cli.rollouts", "rollout", "Rollouts: start, show, promote, abort, watch."),
    "endpoints": ("rlaas_ray.cli.endpoints", "endpoints", "Endpoints: list, show, history, prefer, delete."),
    "decide": ("rlaas_ray.cli.decisions", "decide", "Ask an endpoint for a decision."),
    "reward": ("rlaas_ray.cli.decisions", "reward", "Report the outcome of a decision."),
    "log": ("rlaas_ray.cli.decisions", "log", "The decision log: export."),
    "data": ("rlaas_ray.cli.data", "data", "Logged data of others: import."),
    "ope": ("rlaas_ray.cli.ope", "ope", "Estimate a policy's value from logged decisions."),
    "keys": ("rlaas_ray.cli.keys", "keys", "API keys: create, list, revoke."),
    "audit": ("rlaas_ray.cli.audit", "audit", "The audit log: verify, show."),
    "completion": ("rlaas_ray.cli.completion", "completion", "Print the completion script of a shell."),
}


class Table(click.Group):
    """A group that knows its commands' names and help, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before click sees it and calls it a failure
            _seen_enough()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from rlaas_ray.errors import nearest

            ctx.fail(f"No such command {name!r}. {nearest(name, list(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.group(cls=Table, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--url", metavar="URL", help="The server to ask, instead of RLAAS_URL or the runtime of this home.")
@click.option("--verbose", is_flag=True, help="Say which server is asked, and why.")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.version_option(package_name="rlaas-ray", prog_name="rlaas")
@click.pass_context
def rlaas(ctx: click.Context, *, url: str | None, verbose: bool, debug: bool) -> None:
    """Reinforcement learning as a service on Ray: train, serve, decide, judge, promote or roll back."""
    ctx.obj = {"url": url, "verbose": verbose, "debug": debug}


def main() -> NoReturn:
    """Run the command line; every error becomes a message with its cure, and the exit code of its class."""
    # Users' own envs, `module:Class`, lie where they work; last, so that they shadow nothing of ours.
    sys.path.append(os.getcwd())  # noqa: PTH109 - pathlib would be one more import
    try:
        sys.exit(_run(sys.argv[1:]))
    except BrokenPipeError:
        _seen_enough()


def _seen_enough() -> NoReturn:
    """`| head`: whoever read has seen enough, and that is no fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _run(arguments: list[str]) -> int:
    try:
        code = rlaas.main(arguments, prog_name="rlaas", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        return _usage(error, arguments)
    except (KeyboardInterrupt, click.Abort):
        return _told(Interrupted("interrupted"), arguments)
    except RlaasError as error:
        return _told(error, arguments)
    except (BrokenPipeError, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001 - the last door: one line for people, the traceback in the log
        return _unexpected(error, arguments)


def _usage(error: click.ClickException, arguments: list[str]) -> int:
    if _wants_json(arguments):
        from rlaas_ray.errors import InvalidInput

        return _told(
            InvalidInput(error.format_message(), cure="`rlaas COMMAND --help` shows what it takes."), arguments
        )
    error.show(sys.stderr)
    return error.exit_code


def _told(error: RlaasError, arguments: list[str]) -> int:
    if _wants_json(arguments) and not _answered():
        import json

        click.echo(json.dumps({**error.to_problem(), "exit_code": error.exit_code}, default=str))
    click.echo(f"error: {error.detail}", err=True)
    if error.cure:
        click.echo(f"  {error.cure}", err=True)
    return error.exit_code


def _unexpected(error: Exception, arguments: list[str]) -> int:
    if "--debug" in arguments:
        raise error
    import traceback

    from rlaas_ray import settings

    log = settings.read().home / "log" / "cli.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"rlaas {' '.join(arguments)}\n{''.join(traceback.format_exception(error))}\n")
    except OSError as unwritable:
        click.echo(f"{log}: {unwritable}", err=True)
    fault = RlaasError(
        f"unexpected {type(error).__name__}: {error}", cure=f"The traceback is in {log}; --debug shows it here."
    )
    return _told(fault, arguments)


def _wants_json(arguments: list[str]) -> bool:
    return "--json" in arguments or "--jsonl" in arguments


def _answered() -> bool:
    from rlaas_ray.cli import output

    return output.answered()


def table() -> dict[str, Any]:
    """The commands, for tests and for completion."""
    return {name: rlaas.get_command(click.Context(rlaas), name) for name in COMMANDS}


if __name__ == "__main__":
    main()
