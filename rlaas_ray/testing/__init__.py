"""Twins that ship: a manual clock, fakes of the seams, builders of values, strategies for bad input.

Each twin passes the suite in tests/contracts that the real thing passes. Imported by tests (the users' too), never by the
product.
"""
