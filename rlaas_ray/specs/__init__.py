"""Documents, values and seams: what every other package may know.

Documents (pydantic; handed in by people and wires): `train`, `optimize`, `evaluate`, `endpoint`, `rollout`. Values (frozen
dataclasses; passed on by the program): `runs`, `routing`, `log`, `evidence`, `policy`. Protocols: `seams`. Array aliases:
`arrays`. Invariant: a document that parsed is valid. Never meets a file, a clock, Ray or HTTP. Tests: unit/specs.
"""
