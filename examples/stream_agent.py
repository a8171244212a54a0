"""The stream agent on the simulated WordCount: recommends, sees what it earns, learns. No key, no network.

    python examples/stream_agent.py

Each reward is the mean of a minute under the scheme: a bandit. Restarts cost nothing here (`downtime: 0`).
"""

import numpy as np

from rlaas.stream import StreamProcessingRLAgent
from rlaas_ray.envs import registry
from rlaas_ray.envs.stream import observation

CHOICES, MINUTE = 120, 6


def main(choices: int = CHOICES) -> list[float]:
    """What each choice earned."""
    env = registry.make_vector("rlaas/StreamParallelism-wordcount-v1", num_envs=1, seed=0, config={"downtime": 0.0})
    flow = env.domain.flow
    agent = StreamProcessingRLAgent(deepseek_api_key="", deepseek_config={"max_parallelism": flow.max_parallelism})
    env.reset()
    earned = []
    for number in range(choices):
        info = observation.operators_info(flow, env.state())
        scheme, told = agent.act(operators_info=info, dependencies=flow.pairs, explore=True, temperature=0.2)
        action = np.array([[scheme[one] - 1 for one in flow.tunable]])
        earned.append(float(np.mean([env.step(action)[1][0] for _ in range(MINUTE)])))
        agent.store_experience(
            operators_info=info,
            dependencies=flow.pairs,
            scheme=scheme,
            reward=earned[-1],
            propensity=told["propensity"],
        )
        agent.train_evaluator()
        if number % 10 == 9:
            lately = np.mean(earned[-10:])
            print(f"{number + 1:4d}  {scheme[1:]}  predicted {told['predicted_value']:.3f}  mean of ten {lately:.3f}")
    return earned


if __name__ == "__main__":
    main()
