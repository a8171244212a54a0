"""The command line: one table of commands, imported when they run; stdout carries data, stderr the rest.

Start at main.py. Invariant: `--help` loads click alone. Everything goes through the SDK. Tests: surfaces/.
"""
