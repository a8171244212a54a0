"""One BLAS thread for every test process and its children, set before NumPy is loaded.

Two workers with two threads each on two cores spin against each other: a test of 12 s took over 120 s.
"""

import os

# Not from `settings`, which would load NumPy first.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}
