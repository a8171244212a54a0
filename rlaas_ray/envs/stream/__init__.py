"""Operator parallelism of a streaming dataflow: a fluid simulator with back-pressure, its baselines, and its exact tiny form.

env.py makes the Gymnasium form; graph.py holds the dataflows, ours and a user's own; model.py the physics.
"""
