"""Schema revisions, applied by `store/schema.py` under a lock. One file a revision in `versions/`; never edited once released."""
