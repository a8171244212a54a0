"""The client: sync and async, over HTTP or in-process. Errors come back as the classes of errors.py.

Start at client.py. Never knows what is behind the API. Tests: surfaces/test_sdk.py.
"""
