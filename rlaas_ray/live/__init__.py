"""Live clusters: an environment whose steps are patches on real Deployments.

Start at edge.py (the Gymnasium env) or guards.py (pure: what may be done, when to try again, when to stop). Invariant: without
`apply=True` every patch is a dry run, and after three failed calls in five minutes there are no more patches. Never imported by
`envs`: it is reached as `rlaas_ray.live.edge:LiveEdgePlacement`. Tests: unit/live, contracts/test_live_edge.py on the API-server
twin, or on the cluster that RLAAS_TEST_KUBECONFIG names.
"""
