"""Slate recommendation: interest evolution, long-term satisfaction (pure); env.py and problem.py are the doors to frameworks.

Invariant: conversion and diversity are observed and never feed back; costs are never mixed into the reward. Figures:
REFERENCE.json, made by `rlaas env reference`. Tests: unit/envs/test_recommendation_*.
"""
