"""Edge placement: pods of services on Kubernetes nodes while users move between zones. config, demand, queueing, model are pure.

Invariant: model.py is the only physics; environment, baselines, the exact optimum and the search problem all call it. The
live cluster takes its names and the reading of actions from config.py. Figures: REFERENCE.json. Tests: unit/envs/test_edge_*.
"""
