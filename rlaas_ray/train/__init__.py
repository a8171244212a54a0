"""Training: RLlib at the speed of columns, checkpoints that resume, export to a Bundle.

Start at runner.py (one attempt of a run). rllib/ is the only folder that knows AlgorithmConfig. Invariant: the reported return
is the true mean of the last 100 episodes. Never opens the database: it reports. Tests: unit/train, learning, ray.
"""
