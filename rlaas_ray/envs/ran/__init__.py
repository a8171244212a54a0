"""The 5G radio network: layout, channel, radio, dynamics (pure); env.py and problem.py are its only doors to frameworks.

Invariant: objectives do not depend on the mode; costs are never mixed into the reward. Figures: REFERENCE.json, made by
`rlaas env score`. Tests: unit/envs/ran.
"""
