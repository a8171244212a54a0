"""Tabular Q-learning: a table of values over cells of observations.

Tests: unit/train/test_tabular.py, learning/test_tabular_learns.py.
"""
