"""Fronts of many objectives: problems, algorithms, the search, the choice of a point.

Start at search.py, algorithms.py and choice.py. Pure: evaluators, clocks and generators are handed in. Tests: unit/optimize.
"""
