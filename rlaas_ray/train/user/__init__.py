"""Algorithms of users: the protocol, plain agent classes, how they are found, trained and checked.

Tests: unit/train/test_user*.py, surfaces/test_cli_algorithms.py.
"""
