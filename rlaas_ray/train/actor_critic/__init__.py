"""SAC, TD3 and DDPG: actors and critics learnt from replay, with analytic gradients in NumPy."""
