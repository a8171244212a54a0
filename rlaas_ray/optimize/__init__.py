"""Fronts of many objectives: search through pymoo, choice by TOPSIS.

Start at search.py and choice.py. Pure: problems and generators are handed in. Tests: unit/optimize.
"""
