"""The decision log from its reading side: schema, segments, sealing, joins.

Start at decision_log.py. Invariant: a torn tail loses no whole row; a cut gives the same rows before and after sealing.
Tests: unit/data.
"""
