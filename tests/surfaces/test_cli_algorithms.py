"""`rlaas algorithms`: the table, options, plugins good and broken, and the check with its exit codes."""

import json
from pathlib import Path

import pytest

from rlaas_ray.cli import main
from rlaas_ray.specs.algorithms import ALGORITHMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rlaas(monkeypatch, capsys, tmp_path):
    """Run `rlaas` in this process: (exit code, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "train_envs"))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("RLAAS_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main._run(["algorithms", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def plugins(monkeypatch, tmp_path):
    """A package that is installed, as pip leaves it, with a good plugin, one that does not import, and one named ppo."""
    folder = tmp_path / "installed"
    meta = folder / "learners-1.2.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: learners\nVersion: 1.2\n")
    (meta / "entry_points.txt").write_text(
        "[rlaas.algorithms]\nlinear = theirs:Linear\nbroken = not_there:Class\nppo = theirs:Linear\n"
    )
    monkeypatch.syspath_prepend(str(folder))


def test_every_algorithm_is_listed(rlaas) -> None:
    code, out, _ = rlaas("list", "--json")
    items = json.loads(out)["items"]
    assert code == 0
    assert [item["name"] for item in items] == list(ALGORITHMS)
    assert all(item["fast"] == (item["runs"] != "not built") for item in items)


def test_plugins_are_listed_and_a_broken_one_breaks_nothing(rlaas, plugins) -> None:
    code, out, err = rlaas("list")
    assert code == 0
    assert "theirs:Linear of learners 1.2" in out
    assert "broken cannot be used" in err
    assert "ppo cannot be used" in err
    assert "built in" in err
    assert json.loads(rlaas("show", "linear", "--json")[1])["target"] == "theirs:Linear"
    assert rlaas("show", "broken")[0] == 2


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_options_are_shown_with_their_defaults(rlaas, name: str) -> None:
    code, out, _ = rlaas("show", name, "--json")
    told = json.loads(out)
    assert code == 0
    assert [row["option"] for row in told["options"]] == list(ALGORITHMS[name].options.model_fields)
    assert told["about"]
    assert rlaas("show", name)[0] == 0


def test_a_name_that_nobody_brings_is_a_wrong_call_with_the_nearest(rlaas) -> None:
    code, out, err = rlaas("show", "q_lerning")
    assert (code, out) == (2, "")
    assert "Did you mean 'q_learning'?" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["examples.own_algorithm:ActorCritic", "examples.plain_agent:SarsaAgent", "theirs:Climber", "theirs:Linear"]
)
def test_what_keeps_the_protocol_is_fit(rlaas, name: str) -> None:
    code, out, _ = rlaas("check", name, "--json")
    told = json.loads(out)
    assert (code, told["fit"]) == (0, True)
    tried = [check for check in told["checks"] if not check["name"].startswith("its constructor")]
    assert all(check["passed"] for check in tried)
    assert len(tried) >= 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fault", "advice"),
    [
        ("theirs:Careless", "its state goes on where it was", "the same seed gives the same training"),
        ("theirs:Wide", "trains and counts true returns", None),
        ("theirs:Raising", "trains and counts true returns", None),
        ("theirs:Silent", "its state goes on where it was", None),
        ("theirs:Unlike", "what can be served is what it does", None),
    ],
)
def test_each_fault_is_found_and_has_its_cure(rlaas, name: str, fault: str, advice: str | None) -> None:
    code, out, _ = rlaas("check", name, "--env", "CartPole-v1", "--json")
    told = json.loads(out)
    assert (code, told["fit"]) == (3, False)
    failed = {check["name"]: check for check in told["checks"] if not check["passed"]}
    assert fault in failed
    assert not failed[fault]["advice"]
    assert all(check["cure"] for check in failed.values())
    assert advice is None or failed[advice]["advice"]
    assert f"FAIL  CartPole-v1  {fault}" in rlaas("check", name, "--env", "CartPole-v1")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "theirs:Half"), "without update, state, load_state"),
        (("check", "not_there:Class"), "not_there"),
        (("check", "ppo"), "built in"),
        (("check", "theirs:Linear", "--env", "NoSuchEnv-v0"), "NoSuchEnv"),
        (("check", "theirs:Linear", "--set", "x"), "KEY=VALUE"),
    ],
)
def test_a_wrong_call_is_exit_2(rlaas, arguments, words: str) -> None:
    code, out, err = rlaas(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_an_algorithm_that_takes_none_of_the_envs_is_unfit_and_says_so(rlaas) -> None:
    code, out, _ = rlaas("check", "examples.plain_agent:SarsaAgent", "--env", "CartPole-v1")
    assert code == 3
    assert "takes some env" in out
