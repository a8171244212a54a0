"""Ten drones flown by the policy that one drone learnt: each decides from its own 32 numbers.

    rlaas train --env rlaas/DroneDelivery-v1 --steps 2000000 --name courier
    python examples/fleet_from_one.py BUNDLE [--episodes 4]

BUNDLE is the folder that `rlaas models show courier` names. Prints the fleet's mean return and its score on the card.
"""

import argparse
from pathlib import Path

import numpy as np

from rlaas_ray.envs import scoring
from rlaas_ray.policies import bundle

FLEET = "rlaas/DroneFleet-v1"


def play_of(path: Path):
    """What `scoring` plays: the lone drone's policy for every drone of every fleet."""
    courier = bundle.load(path)

    def play():
        def act(observations, rng):
            fleets, drones, size = observations.shape
            drawn = courier.decide(observations.reshape(-1, size), rng=rng)
            return drawn.action.reshape(fleets, drones, -1).astype(np.float32)

        return act

    return play


def main(arguments: list[str] | None = None) -> scoring.Score:
    """Score it and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--episodes", type=int, default=4)
    given = parser.parse_args(arguments)
    found = scoring.score(FLEET, play_of(given.bundle), episodes=given.episodes)
    low, high = found.score_ci95
    print(f"return {found.return_mean:.1f}, score {found.score:.1f} [{low:.1f}, {high:.1f}], costs {found.costs}")
    return found


if __name__ == "__main__":
    main()
