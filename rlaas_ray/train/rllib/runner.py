"""ColumnarEnvRunner: RLlib's EnvRunner around one collector; a Ray actor, or the driver's own when num_env_runners is 0.

Made by RLlib's EnvRunnerGroup from the config. Holds no weights: they come with every request (fragments.Request). An env that
raises gives a fragment with the traceback in it and is made anew, instead of ending the actor (which RLlib would sleep over).
"""

from __future__ import annotations

import os
import traceback
from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID  # noqa: TID251
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES  # noqa: TID251
from ray.rllib.env.env_runner import EnvRunner  # noqa: TID251
from ray.rllib.utils.checkpoints import Checkpointable  # noqa: TID251

from rlaas_ray.train import threads
from rlaas_ray.train.fragments import Fragment, Request, failed
from rlaas_ray.train.seam import Collector


class ColumnarEnvRunner(EnvRunner, Checkpointable):
    """`sample(request=...)` gives a Fragment."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self.num_workers > 0:
            threads.use_one()
        index = max(0, (self.worker_index or 0) - 1)
        self._collector: Collector = config.parts.collector(config.plan, config.worlds, index=index)

    def sample(self, *, request: Request, **kwargs: Any) -> Fragment:
        """One fragment; an env's exception comes back as its traceback."""
        try:
            return self._collector.sample(request)
        except Exception:  # noqa: BLE001  # whatever an env raises: the driver decides whether the run goes on
            self._collector.close()
            return failed(request.observations, reason=traceback.format_exc())

    def get_metrics(self) -> Any:
        """RLlib's own metrics; ours travel in fragments."""
        return self.metrics.reduce()

    def get_spaces(self) -> dict[str, Any]:
        """The spaces that RLlib builds modules from: encoded observations."""
        spaces = (self.config.observation_space, self.config.action_space)
        return {INPUT_ENV_SPACES: spaces, INPUT_ENV_SINGLE_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def assert_healthy(self) -> None:
        """Nothing to prove: envs are made at the first request."""
        assert self._collector is not None

    def process_id(self) -> int:
        """For tests that kill one, and for `runs show`."""
        return os.getpid()

    def stop(self) -> None:
        """Release the envs."""
        self._collector.close()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: see the module's docstring."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How RLlib's checkpoint makes this again."""
        return (), {"config": self.config}
