"""The command line's frame, as real processes: help, table, exit codes, JSON errors, pipes, completion."""

import json
import os
import subprocess
import sys

import click
import pytest

from rlaas_ray.cli import main

RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]
HEAVY = {"ray", "torch", "numpy", "fastapi", "sqlalchemy", "httpx", "rich", "pydantic", "yaml", "gymnasium"}


@pytest.fixture
def rlaas(tmp_path):
    """Run `rlaas` in a home of its own."""

    def run(*arguments: str, **more) -> subprocess.CompletedProcess:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RLAAS_")}
        own |= {"RLAAS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **more.pop("environment", {})}
        return subprocess.run(
            [*RLAAS, *arguments], check=False, capture_output=True, text=True, env=own, cwd=tmp_path, timeout=60, **more
        )

    return run


def test_help_loads_click_and_nothing_heavy() -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rlaas_ray.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in listed.stderr.splitlines() if "|" in line}
    assert not loaded & HEAVY
    assert "click" in loaded


@pytest.mark.parametrize("name", [name for name in main.COMMANDS if name != "quickstart"])
def test_the_tables_line_is_the_commands_own_help(name: str) -> None:
    command = main.rlaas.get_command(click.Context(main.rlaas), name)
    assert command.name == name
    assert command.get_short_help_str(200).rstrip(".") == main.COMMANDS[name][2].rstrip(".")


def test_an_unknown_command_names_the_nearest_and_is_a_wrong_call(rlaas) -> None:
    done = rlaas("statsu")
    assert done.returncode == 2
    assert "Did you mean 'status'?" in done.stderr


def test_a_home_without_a_runtime_is_down_and_that_is_no_failure(rlaas) -> None:
    done = rlaas("status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["state"] == "down"


@pytest.mark.parametrize(
    "command", [("decide", "cells", "--unit", "u", "--observation", "[1]"), ("reward", "d-1", "0.5")]
)
def test_decisions_without_a_server_name_the_cure(rlaas, command) -> None:
    done = rlaas(*command, "--json")
    assert done.returncode == 1
    problem = json.loads(done.stdout)
    assert problem["type"] == "/docs/problems/unavailable"
    assert "rlaas up" in problem["cure"]
    assert "rlaas up" in done.stderr


def test_bad_yaml_names_the_line_and_is_a_wrong_call(rlaas, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text("env: CartPole-v1\n  seed: [1\n")
    done = rlaas("train", "spec.yaml", "--json")
    assert done.returncode == 2
    assert "line 2" in json.loads(done.stdout)["detail"]


def test_an_unknown_field_names_the_nearest_before_anything_starts(rlaas, tmp_path) -> None:
    (tmp_path / "spec.yaml").write_text("kind: Train\nenv: CartPole-v1\nlearning_rat: 3e-4\n")
    done = rlaas("train", "spec.yaml", "--json")
    problem = json.loads(done.stdout)
    assert (done.returncode, problem["type"]) == (2, "/docs/problems/unknown-field")
    assert "learning_rate" in problem["cure"]
    assert problem["errors"][0]["pointer"] == "/learning_rat"
    assert not (tmp_path / "home" / "rlaas.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "no.yaml"), "no.yaml"),
        (("train", "--env", "CartPole-v1", "--set", "seed"), "KEY=VALUE"),
        (("train", "--env", "CartPole-v1", "--set", "seed=x"), "seed"),
        (("train", "--env", "nowhere:Env"), "nowhere"),
        (("serve", "cells"), "POLICY"),
        (("serve", "Cells!", "m:1"), "name"),
        (("rollout", "start", "cells", "m:1", "--share", "60%"), "stages"),
        (("rollout", "start", "cells", "m:1", "--share", "half"), "percents"),
        (("log", "export", "cells", "--to", "x.csv"), ".parquet"),
    ],
)
def test_a_wrong_call_is_exit_2_and_says_which_part(rlaas, arguments, words) -> None:
    done = rlaas(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""


def test_a_usage_error_in_json_mode_is_a_problem_document(rlaas) -> None:
    done = rlaas("train", "--stpes", "3", "--json")
    assert done.returncode == 2
    assert "--stpes" in json.loads(done.stdout)["detail"]


def test_a_server_that_is_not_there_is_named(rlaas) -> None:
    done = rlaas("--url", "http://127.0.0.1:9", "runs", "list")
    assert done.returncode == 1
    assert "http://127.0.0.1:9" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path) -> None:
    piped = f"{sys.executable} -m rlaas_ray.cli env list --all | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.splitlines()[-1] == "0"
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_of_that_shell(rlaas, shell: str) -> None:
    if shell == "bash" and subprocess.run(["bash", "-c", "((BASH_VERSINFO[0]>=4))"], check=False).returncode:
        pytest.skip("click refuses bash before 4.4")
    assert "_RLAAS_COMPLETE" in rlaas("completion", shell).stdout


def test_the_shell_is_given_the_names_of_commands(rlaas) -> None:
    told = {"_RLAAS_COMPLETE": "bash_complete", "COMP_WORDS": "rlaas st", "COMP_CWORD": "1"}
    assert "plain,status" in rlaas(environment=told).stdout


def test_every_command_has_help_and_takes_json_where_it_prints_data() -> None:
    def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            return [pair for name, inner in command.commands.items() for pair in walk(inner, f"{path} {name}")]
        return [(path, command)]

    names = [name for name in main.COMMANDS if name != "quickstart"]
    context = click.Context(main.rlaas)
    leaves = [pair for name in names for pair in walk(main.rlaas.get_command(context, name), name)]
    assert all(command.help for _, command in leaves)
    without = {path for path, command in leaves if not any(p.name == "as_json" for p in command.params)}
    assert without == {"runs logs", "completion"}  # text as it is
