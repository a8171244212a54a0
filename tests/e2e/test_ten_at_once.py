"""Ten trainings at once share one machine: all of them end well, and while they run none of them starves."""

import time

import numpy as np
import pytest

from rlaas.sdk import RLaaSClient

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]
STEPS = 150_000


def test_ten_trainings_share_the_machine_and_none_starves(machine) -> None:
    client = RLaaSClient(machine.url, api_key=(machine.home / "admin-key").read_text().strip())
    runs = [
        client.training.start(
            env="CartPole-v1",
            num_env_runners=0,
            total_timesteps=STEPS,
            checkpoint_every_s=1.0,
            seed=seed,
            name=f"many-{seed}",
            evaluate={"episodes": 2},
        )
        for seed in range(10)
    ]
    together: list[list[int]] = []
    deadline_s = time.monotonic() + 360
    while True:
        told = {one["id"]: one for one in client.runs.list(limit=100, kind="train")}
        states = [told[run.id]["state"] for run in runs]
        steps = [told[run.id]["progress"]["steps"] for run in runs]
        if all(state == "running" for state in states) and min(steps) > 0:
            together.append(steps)
        if not {"queued", "running"} & set(states):
            break
        assert time.monotonic() < deadline_s, (states, steps)
        time.sleep(0.5)
    assert states == ["succeeded"] * 10
    assert len(together) >= 2, "never all ten at once"
    gained = np.subtract(together[-1], together[0]).astype(float)
    # Jain's index of what each got while all ten ran: 1 is equal, 0.1 is one that takes all
    assert gained.sum() ** 2 / (10 * np.square(gained).sum()) >= 0.6, gained
    assert (gained > 0).all(), gained
    client.close()
