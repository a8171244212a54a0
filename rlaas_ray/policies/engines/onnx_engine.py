"""The ONNX engine: onnxruntime on one thread, quickest from a few rows on.

Made by `choice.py` from the bytes of `policy.onnx`, which `onnx_graph.check` has already refused or passed.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from rlaas_ray.policies import onnx_graph
from rlaas_ray.specs.arrays import F32


class OnnxEngine:
    """Head parameters (n, k) of encoded observations (n, d); with a memory also the state (n, s) after them."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._outputs = [onnx_graph.OUTPUT]
        sizes = {given.name: given.shape[1] for given in self._session.get_inputs()}
        self._state_size: int = sizes.get(onnx_graph.STATE, 0)

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32; with a memory, at the start of an episode."""
        if self._state_size:
            return self.step(observations, np.zeros((len(observations), self._state_size), dtype=np.float32))[0]
        out: F32 = self._session.run(self._outputs, {onnx_graph.INPUT: observations})[0]
        return out

    def step(self, observations: F32, states: F32) -> tuple[F32, F32]:
        """(n, d) and (n, s) -> (n, k) and (n, s), float32."""
        given = {onnx_graph.INPUT: observations, onnx_graph.STATE: states}
        out: list[F32] = self._session.run([onnx_graph.OUTPUT, onnx_graph.STATE_OUT], given)
        return out[0], out[1]
