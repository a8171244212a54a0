"""Tuning: typed spaces, searches, schedulers, a journal that survives kill -9, and two executors: a pool of our own and Ray Tune.

Called by wiring for a run of kind `tune`. A trial is a training of rlaas_ray.train, or a function of the user.
"""
