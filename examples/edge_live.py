"""Edge placement on a live Kubernetes cluster: shows what it would do, and does it only with --apply.

    python examples/edge_live.py --namespace edge --context my-cluster --metrics http://prometheus.monitoring:9090

Every step: the service with the highest latency gets one pod more, on the allowed node nearest to its users. A trained policy is
asked in the same place. See docs/edge-live.md.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from rlaas_ray.envs.edge import config, macro
from rlaas_ray.live.edge import LiveEdgePlacement


def choose(env: LiveEdgePlacement, latency_ms: np.ndarray, demand: np.ndarray) -> int:
    """The number of an action that the mask allows; 0 is none."""
    params, mask = env.domain.params, env.action_masks()
    distance = macro.mean_rtt(demand[None], params.rtt)[0]  # (S, N) ms
    for service in np.argsort(-latency_ms):
        place, _, _ = macro.numbers(params.instance, int(service))
        allowed = np.where(mask[place] > 0, distance[service], np.inf)
        if np.isfinite(allowed.min()):
            return int(place[allowed.argmin()])
    return 0


def play(env: LiveEdgePlacement, *, steps: int) -> None:
    """Each step lasts the instance's period, 30 s by default."""
    _, info = env.reset()
    for step in range(steps):
        demand = env.demand
        action = choose(env, info["latency_by_service"], demand)
        _, reward, _, _, info = env.step(action)
        kind, *_ = config.decode(action, instance=env.domain.params.instance)
        for patch in info["patches"]:
            word = "would set" if patch["dry_run"] else "done:"
            print(f"step {step}: {kind}: {word} {patch['deployment']} {patch['before']} -> {patch['after']}")
        print(f"step {step}: reward {reward:.3f}, over the limit {info['cost'][0]:.3f} {' '.join(info['refused'])}")
        if info["alarm"]:
            raise SystemExit("the API server failed three times: nothing is patched any more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--context", help="of the kubeconfig; leave out inside the cluster")
    parser.add_argument("--kubeconfig")
    parser.add_argument("--metrics", required=True, help="Prometheus, e.g. http://prometheus.monitoring:9090")
    parser.add_argument("--instance", type=Path, help="JSON with nodes and services")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--apply", action="store_true", help="carry it out; without it every patch is a dry run")
    given = parser.parse_args()
    env = LiveEdgePlacement(
        cluster={"namespace": given.namespace, "context": given.context, "kubeconfig": given.kubeconfig},
        metrics={"prometheus": given.metrics},
        instance=json.loads(given.instance.read_text()) if given.instance else None,
        apply=given.apply,
    )
    with env:
        play(env, steps=given.steps)


if __name__ == "__main__":
    main()
