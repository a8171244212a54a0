"""IMPALA, APPO and A3C: on-policy learning that does not wait for its env runners.

Tests: unit/train, learning/, ray/.
"""
