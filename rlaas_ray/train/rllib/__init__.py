"""RLlib, met here and nowhere else: config, columnar env runner, PPO learner, the algorithm.

Tests: ray/, learning/.
"""
