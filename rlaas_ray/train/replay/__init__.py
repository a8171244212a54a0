"""Columnar replay: transitions in one preallocated array, uniform or prioritised, for every off-policy algorithm."""
