"""`rlaas data import` and `rlaas ope` as real processes: on drawn files, and on Open Bandit's own where there is a network."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.testing import open_bandit as published

RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]
# Files of 10,000 rows each lie in this wheel. It is read as a zip file: never installed, never imported.
WHEEL, SHA256 = "obp==0.4.1", "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
INSIDE = "obp/dataset/obd/"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Run = Callable[..., dict]


def runner(home: Path) -> Run:
    def run(*arguments: str, code: int = 0) -> dict:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RLAAS_")}
        own |= {"RLAAS_HOME": str(home), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*RLAAS, *arguments, "--json"], check=False, capture_output=True, text=True, env=own, timeout=110
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    return run


def downloaded(folder: Path) -> Path:
    """The wheel, from the cache or the index that pip knows; skips where neither has it, fails where it is another file."""
    found = sorted(folder.glob("obp-0.4.1-*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        few = ["--retries", "1", "--timeout", "10", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*pip, *few, "--dest", str(folder), WHEEL], check=False, capture_output=True, text=True, timeout=100
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{WHEEL} could not be fetched in 100 s")
        if done.returncode:
            pytest.skip(f"{WHEEL} could not be fetched: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        found = sorted(folder.glob("obp-0.4.1-*.whl"))
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != SHA256:
        found[0].unlink()
        pytest.fail(f"{WHEEL} is not the file that was measured: sha256 {digest}")
    return found[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[Run, dict]:
    """A home into which Open Bandit's small files were imported."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlaas-ray-tests"
    folder = tmp_path_factory.mktemp("obp")
    with zipfile.ZipFile(downloaded(cache)) as wheel:
        wheel.extractall(folder, [n for n in wheel.namelist() if n.startswith(INSIDE) and n.endswith(".csv")])
    run = runner(folder / "home")
    return run, run("data", "import", "open-bandit", str(folder / INSIDE))


def test_the_published_files_have_the_published_clicks(real) -> None:
    _, told = real
    assert "ZOZO" in told["attribution"]
    assert "CC BY 4.0" in told["attribution"]
    assert {(one["endpoint"], one["arm"]): (one["rows"], one["clicks"], one["items"]) for one in told["items"]} == {
        ("open-bandit-all", "random"): (10_000, 38, 80),
        ("open-bandit-all", "bts"): (10_000, 42, 80),
        ("open-bandit-men", "random"): (10_000, 46, 34),
        ("open-bandit-men", "bts"): (10_000, 69, 34),
        ("open-bandit-women", "random"): (10_000, 46, 46),
        ("open-bandit-women", "bts"): (10_000, 46, 46),
    }


@pytest.mark.parametrize(
    ("campaign", "ipw", "snipw", "ess", "max_weight", "support"),
    [
        ("all", 0.002360, 0.002334, 340, 277.8, "ok"),
        ("men", 0.003009, 0.003189, 656, 178.3, "ok"),
        ("women", 0.007438, 0.002373, 2, 21_739.1, "insufficient overlap"),
    ],
)
def test_the_value_of_uniform_from_the_rows_of_thompson_sampling(
    real, campaign, ipw, snipw, ess, max_weight, support
) -> None:
    run, _ = real
    asked = ("ope", "uniform", "--log", f"open-bandit-{campaign}", "--arm", "bts", "--on-policy", "random")
    found = run(*asked, code=0 if support == "ok" else 3)
    assert found["ipw"]["mean"] == pytest.approx(ipw, abs=1e-6)
    assert found["snipw"]["mean"] == pytest.approx(snipw, abs=1e-6)
    assert round(found["diagnostics"]["ess"]) == ess
    assert found["diagnostics"]["max_weight"] == pytest.approx(max_weight, abs=0.05)  # as many digits as the table has
    assert (found["rows"], found["support"]) == (10_000, support)
    beside = found["on_policy"]["mean"]
    if support == "ok":
        assert found["snipw"]["low"] <= beside <= found["snipw"]["high"]
        assert any("covers the on-policy mean" in note for note in found["notes"])
        assert any("cannot tell the target from" in note for note in found["notes"])
    else:
        assert "effective sample size 2.08 of 10,000 rows" in found["reasons"][0]
        assert any("nothing is said" in note for note in found["notes"])


def test_uniform_on_the_rows_of_random_is_what_was_logged(real) -> None:
    run, _ = real
    found = run("ope", "uniform", "--log", "open-bandit-all", "--arm", "random")
    assert found["diagnostics"]["ess"] == pytest.approx(10_000)
    assert found["snipw"]["mean"] == pytest.approx(found["logged"]["mean"]) == pytest.approx(0.0038)
    assert found["ipw"]["mean"] == pytest.approx(0.0038)


# --- drawn files: no network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("drawn")
    rates = np.array([0.1, 0.2, 0.4])
    for seed, (arm, rows) in enumerate({"random": 400, "bts": 3000}.items()):
        published.write(
            folder / "obd", arm=arm, campaign="women", rows=rows, seed=seed, click_rates=rates, evenness=5.0
        )
    run = runner(folder / "home")
    run("data", "import", "open-bandit", str(folder / "obd"))
    return run, folder


def test_endpoint_export_and_folder_give_the_same_estimate(drawn) -> None:
    run, folder = drawn
    export = folder / "women.parquet"
    assert run("log", "export", "open-bandit-women", "--to", str(export))["decisions"] == 3400
    found = [
        run("ope", "uniform", "--log", log, "--arm", "bts")
        for log in ("open-bandit-women", str(export), str(folder / "home"))
    ]
    assert [{**one, "log": ""} for one in found] == [{**found[0], "log": ""}] * 3
    truth = (0.1 + 0.2 + 0.4) / 3
    assert found[0]["snipw"]["low"] <= truth <= found[0]["snipw"]["high"]
    assert found[0]["support"] == "ok"
    assert found[0]["arms"] == ["bts"]


def test_a_bundle_is_a_target_too(drawn) -> None:
    from rlaas_ray.testing.bundles import a_bundle

    run, folder = drawn
    width = run("data", "import", "open-bandit", str(folder / "obd"), "--to", str(folder / "again"))["items"][0][
        "observation"
    ]
    a_bundle(folder / "policy", width=width, actions=3)
    found = run("ope", str(folder / "policy"), "--log", "open-bandit-women", "--on-policy", "random")
    assert (found["rows"], found["arms"]) == (3400, ["bts", "random"])
    assert found["snipw"]["low"] < found["snipw"]["mean"] < found["snipw"]["high"]
    a_bundle(folder / "narrow", width=2, actions=3)
    refused = run("ope", str(folder / "narrow"), "--log", "open-bandit-women", code=2)
    assert "observed numbers" in refused["detail"]
    refused = run("ope", "baseline:CartPole-v1/random", "--log", "open-bandit-women", code=2)
    assert "policy and log" in refused["detail"]


def test_decisions_that_the_product_logged_weigh_their_own_policy_alike(tmp_path) -> None:
    """The control: a policy's value from its own log is what it earned; another one's is near what that would have earned."""
    from rlaas_ray.data import schema
    from rlaas_ray.monitoring.metrics import ServingMetrics
    from rlaas_ray.policies import bundle
    from rlaas_ray.serve.writer import DecisionWriter
    from rlaas_ray.testing.bundles import a_bundle
    from rlaas_ray.testing.clock import ManualClock

    n, width, rates = 2000, 3, np.array([0.2, 0.5, 0.8])
    rng = np.random.default_rng(5)
    for seed in (1, 2):
        a_bundle(tmp_path / f"policy-{seed}", width=width, actions=3, seed=seed)
    acted, other = (bundle.load(tmp_path / f"policy-{seed}", engine="numpy") for seed in (1, 2))
    seen = rng.normal(size=(n, width)).astype(np.float32)
    drawn = acted.decide(seen, rng=rng)
    reward = (rng.random(n) < rates[drawn.action[:, 0].astype(int)]).astype(float)
    decided = [
        {
            "decision_id": f"a-{i}",
            "endpoint": "shop",
            "epoch": 1,
            "time_us": 1_700_000_000_000_000 + i,
            "unit": f"u-{i % 50}",
            "episode_id": f"a-{i}",
            "step": 0,
            "arm": "champion",
            "version": "shop:1",
            "bundle_digest": acted.digest,
            "observation": seen[i],
            "action_proposed": drawn.action_proposed[i],
            "action": drawn.action[i],
            "propensity": drawn.propensity[i],
            "arm_probability": 1.0,
            "shield_modified": False,
        }
        for i in range(n)
    ]
    row = {"step": 0, "done": False, "truncated": False, "time_us": 1_700_000_001_000_000}
    earned = [{**row, "decision_id": f"a-{i}", "reward": reward[i]} for i in range(n)]
    writer = DecisionWriter(tmp_path / "home", nonce="a", clock=ManualClock(), metrics=ServingMetrics())
    writer.append("decisions", endpoint="shop", rows=decided, form=schema.decisions(width))
    writer.append("rewards", endpoint="shop", rows=earned, form=schema.REWARDS)
    writer.close()
    run = runner(tmp_path / "home")
    own = run("ope", str(tmp_path / "policy-1"), "--log", "shop")
    assert own["diagnostics"]["ess"] == pytest.approx(n)
    assert own["snipw"]["mean"] == pytest.approx(reward.mean(), abs=1e-6)
    assert own["ipw"]["mean"] == pytest.approx(reward.mean(), abs=1e-6)
    found = run("ope", str(tmp_path / "policy-2"), "--log", "shop")
    truth = (other.decide(seen, rng=rng).probabilities @ rates).mean()
    assert found["support"] == "ok"
    half = (found["snipw"]["high"] - found["snipw"]["low"]) / 2
    assert abs(found["snipw"]["mean"] - truth) <= 2 * half < 0.15  # one log: four standard errors
    assert "--actions" in run("ope", "uniform", "--log", "shop", code=2)["detail"]
    assert run("ope", "uniform", "--log", "shop", "--actions", "3")["rows"] == n


def test_what_cannot_be_done_says_so(drawn) -> None:
    run, folder = drawn
    assert "already" in run("data", "import", "open-bandit", str(folder / "obd"), code=1)["type"]
    assert "not-built" in run("data", "import", "csv", "rows.csv", "--map", "map.yaml", code=1)["type"]
    assert "'open-bandit-women'" in run("ope", "uniform", "--log", "open-bandit-woman", code=2)["cure"]
    assert run("ope", "no/such/bundle", "--log", "open-bandit-women", code=2)["cure"]


def test_people_are_told_the_attribution_the_value_and_why_not(drawn) -> None:
    _, folder = drawn
    own = {**os.environ, "RLAAS_HOME": str(folder / "home"), "NO_COLOR": "1"}
    shown = [
        subprocess.run([*RLAAS, *words], check=False, capture_output=True, text=True, env=own, timeout=60)
        for words in (
            ["data", "import", "open-bandit", str(folder / "obd" / "bts"), "--to", str(folder / "third")],
            ["ope", "uniform", "--log", str(folder / "third"), "--on-policy", "bts"],
        )
    ]
    assert [done.returncode for done in shown] == [0, 0]
    assert "CC BY 4.0" in shown[0].stderr
    assert "importing bts/women" in shown[0].stderr
    assert "open-bandit-women" in shown[0].stdout
    assert "snipw" in shown[1].stdout
    assert "on-policy mean" in shown[1].stdout
