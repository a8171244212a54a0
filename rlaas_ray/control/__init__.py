"""Use cases: what the product does when somebody asks, and the loop that judges rollouts.

Start at application.py. Invariant: whoever decides is pure and below; this package carries values from one to the other.
Never meets HTTP or Ray. Tests: unit/control.
"""
