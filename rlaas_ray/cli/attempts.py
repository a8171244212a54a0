"""An attempt in this process: as a place started it (`--run`), as a Ray job that nobody announced, or with the API in here too.

SIGTERM (and the first Ctrl-C) asks the attempt to checkpoint and end: exit 75 (130). What an attempt does is wiring's.
"""
