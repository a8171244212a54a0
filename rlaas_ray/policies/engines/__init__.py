"""Engines: three ways to compute the same distribution (NumPy, ONNX, torch), held together by a parity certificate.

Tests: contracts/test_engines.py.
"""
