"""The ONNX engine: onnxruntime on one thread, quickest from a few rows on.

Made by `choice.py` from the bytes of `policy.onnx`, which `onnx_graph.check` has already refused or passed.
"""

from __future__ import annotations

import onnxruntime

from rlaas_ray.policies import onnx_graph
from rlaas_ray.specs.arrays import F32


class OnnxEngine:
    """Head parameters (n, k) of encoded observations (n, d)."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._outputs = [onnx_graph.OUTPUT]

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32."""
        out: F32 = self._session.run(self._outputs, {onnx_graph.INPUT: observations})[0]
        return out
