"""PPO-Lagrangian: PPO with a value network for each cost and a multiplier that rises while a cost is over its limit.

Found by families.py under `ppo_lagrangian`. Costs come from `info` (options.cost_keys).
"""
