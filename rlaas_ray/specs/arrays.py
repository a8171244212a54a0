"""The array types of the house: a dtype each, batch axis first.

Used in signatures everywhere; `mypy` refuses a float32 array where float64 is wanted. Holds no functions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]
Str = npt.NDArray[np.str_]
Array = npt.NDArray[np.generic]
