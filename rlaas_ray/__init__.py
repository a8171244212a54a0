"""RLaaS on Ray: from an environment to a policy that serves, is judged and is promoted or rolled back.

Start at `wiring.py` (builds everything), `specs/` (documents and values), `errors.py` (every error). Layers are listed in
ARCHITECTURE.md and held by import-linter. Importing this package imports nothing.
"""
