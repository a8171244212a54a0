"""What is real and outside: a Kubernetes cluster as an environment, and a language model behind its endpoint.

Start at edge.py (the Gymnasium env), guards.py (pure: what may be done, when to try again, when to stop) or llm.py. Invariant:
without `apply=True` every patch is a dry run, and after three failed calls in five minutes there are no more patches. `envs` does
not know it: the env is reached as `rlaas_ray.live.edge:LiveEdgePlacement`. Tests: unit/live, contracts/test_live_edge.py on the
API-server twin, or on the cluster that RLAAS_TEST_KUBECONFIG names.
"""
