"""HTTP: routers translate, `control` decides. Problems, keys, limits and forwarding are middlewares, pure ASGI.

Start at app.py. Invariant: no 5xx for what a client sent. Never meets Ray. Tests: unit/api, surfaces.
"""
