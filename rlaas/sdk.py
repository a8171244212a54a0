"""The client, by its public name: `from rlaas.sdk import RLaaSClient, AsyncRLaaSClient`.

What stands in `__all__` is promised; everything below `rlaas_ray.sdk` may move.
"""

from rlaas_ray import errors
from rlaas_ray.sdk.async_client import AsyncRLaaSClient
from rlaas_ray.sdk.async_handles import AsyncEndpoint, AsyncRollout, AsyncRun
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.sdk.exchange import Event
from rlaas_ray.sdk.handles import Endpoint, Rollout, Run
from rlaas_ray.sdk.results import Decision, Evaluation, OptimizationResult, Progress, RunResult

__all__ = [
    "AsyncEndpoint",
    "AsyncRLaaSClient",
    "AsyncRollout",
    "AsyncRun",
    "Decision",
    "Endpoint",
    "Evaluation",
    "Event",
    "OptimizationResult",
    "Progress",
    "RLaaSClient",
    "Rollout",
    "Run",
    "RunResult",
    "errors",
]
