"""Offline: learning from logged transitions: behaviour cloning, MARWIL, CQL, IQL. Entry points: family.py, sources.py (data)."""
