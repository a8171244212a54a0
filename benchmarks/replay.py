"""The replay memory against RLlib's episode buffers: CPU time of one sample of 256 transitions (acceptance A12).

    python -m benchmarks.replay [--rounds 5] [--rows 20000]

Both hold the same number of CartPole transitions. Interleaved in one process on one thread; prints medians, ranges, ratios, for
uniform and prioritised sampling, insertion beside them; exits 1 when a median ratio misses its bar.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rlaas_ray import settings
from rlaas_ray.train.replay import ring
from rlaas_ray.train.replay.memory import Memory

SAMPLE, CAPACITY, EPISODE = 256, 100_000, 100
BAR = 200.0


def ours(rows: int, *, prioritised: bool) -> Memory:
    record = ring.layout(observations=4, actions=1, discrete=True)
    memory = Memory(record, capacity=CAPACITY, max_bytes=1_000_000_000, alpha=0.6 if prioritised else None)
    memory.insert(np.zeros(rows, dtype=record))
    return memory


def rllibs(rows: int, *, prioritised: bool) -> Any:
    from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer
    from ray.rllib.utils.replay_buffers.prioritized_episode_buffer import PrioritizedEpisodeReplayBuffer

    buffer = PrioritizedEpisodeReplayBuffer(capacity=CAPACITY) if prioritised else EpisodeReplayBuffer(CAPACITY)
    buffer.add(rllib_episodes(rows))
    return buffer


def rllib_episodes(rows: int) -> list[Any]:
    """Whole episodes of RLlib's, EPISODE steps each."""
    import gymnasium
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    env = gymnasium.make("CartPole-v1")
    found = []
    for _ in range(rows // EPISODE):
        episode = SingleAgentEpisode(observation_space=env.observation_space, action_space=env.action_space)
        episode.add_env_reset(observation=np.zeros(4, np.float32))
        for step in range(EPISODE):
            episode.add_env_step(
                observation=np.zeros(4, np.float32), action=0, reward=1.0, terminated=step == EPISODE - 1
            )
        found.append(episode)
    return found


def cpu_s(call: Callable[[], object], *, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times


def compare(name: str, *, rows: int, rounds: int, prioritised: bool) -> float:
    """One kind of sampling: gives the median ratio."""
    memory, buffer = ours(rows, prioritised=prioritised), rllibs(rows, prioritised=prioritised)
    rng = np.random.default_rng(0)
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(cpu_s(lambda: memory.sample(SAMPLE, rng=rng, beta=0.4), times=500))
        theirs.append(
            cpu_s(
                lambda: buffer.sample(num_items=SAMPLE, n_step=1, gamma=0.99, beta=0.4, sample_episodes=True), times=10
            )
        )
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    middle = statistics.median(ratios)
    print(
        f"{name:12} ours {statistics.median(mine) * 1e6:8.1f} us   RLlib {statistics.median(theirs) * 1e6:10.1f} us   "
        f"{middle:,.0f}x ({min(ratios):,.0f} to {max(ratios):,.0f}), bar {BAR:g}x",
        flush=True,
    )
    return middle


def inserting(rows: int) -> None:
    """CPU time of adding a step, in fragments of 8 envs times 4 steps, and in whole episodes."""
    memory, buffer = ours(rows, prioritised=False), rllibs(EPISODE, prioritised=False)
    part, episodes = np.zeros(32, dtype=memory.ring.rows.dtype), iter(rllib_episodes(50 * EPISODE))
    mine = cpu_s(lambda: memory.insert(part), times=2_000) / len(part)
    theirs = cpu_s(lambda: buffer.add(next(episodes)), times=50) / EPISODE
    print(f"inserting    ours {mine * 1e6:8.2f} us   RLlib {theirs * 1e6:10.2f} us   a step")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.replay")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.simplefilter("ignore")
    found = [
        compare(name, rows=given.rows, rounds=given.rounds, prioritised=name == "prioritised")
        for name in ("uniform", "prioritised")
    ]
    inserting(given.rows)
    return 0 if min(found) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
