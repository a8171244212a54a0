"""`python -m benchmarks`: every benchmark in turn, about half an hour; each prints its table and says which bar it missed."""

import subprocess
import sys

EACH = (
    ["benchmarks.environments"],
    ["benchmarks.training", "cartpole"],
    ["benchmarks.training", "ran"],
    ["benchmarks.asynchronous", "solve"],
    ["benchmarks.asynchronous", "throughput"],
    ["benchmarks.replay"],
    ["benchmarks.off_policy", "dqn"],
    ["benchmarks.off_policy", "learning", "--env", "CartPole-v1", "--seeds", "10"],
    ["benchmarks.off_policy", "learning", "--env", "Acrobot-v1"],
    ["benchmarks.off_policy_sac", "sac"],
    ["benchmarks.off_policy_sac", "learning", "--algorithm", "sac"],
    ["benchmarks.off_policy_sac", "learning", "--algorithm", "td3"],
    ["benchmarks.off_policy_sac", "learning", "--algorithm", "ddpg"],
    ["benchmarks.off_policy_sac", "learning", "--env", "CartPole-v1"],
    ["benchmarks.tuning"],
    ["benchmarks.optimize"],
    ["benchmarks.fronts", "--only", "nsga2,nsga3", "--seeds", "3"],
    ["benchmarks.fronts"],
    ["benchmarks.search_job"],
    ["benchmarks.searches", "host"],
    ["benchmarks.policy_fronts"],
    ["benchmarks.faults"],
    ["benchmarks.canary"],
    ["benchmarks.choice"],
    ["benchmarks.drones", "learn"],
    ["benchmarks.drones", "field"],
    ["benchmarks.serving"],
    ["benchmarks.quickstart"],
)


def main() -> int:
    """The worst exit status of all."""
    worst = 0
    for arguments in EACH:
        print(f"\n# python -m {' '.join(arguments)}", flush=True)
        worst = max(worst, abs(subprocess.run([sys.executable, "-m", *arguments], check=False).returncode))
    return worst


if __name__ == "__main__":
    sys.exit(main())
