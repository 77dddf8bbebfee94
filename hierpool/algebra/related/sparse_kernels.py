"""Compiled loops over the columns of a sparse Cholesky factor L D L', L with a unit diagonal. Numba.

L is stored by columns, below its diagonal, the rows of a column in ascending order: column j has the
rows ``indices[start[j]:start[j + 1]]``. Right-hand sides are rows of a matrix, columns innermost.

References
----------
Takahashi, Fagan, Chin (1973), 8th PICA Conference (entries of the inverse on the pattern of L).
"""

from __future__ import annotations

import numpy as np
from numba import types

from hierpool.core.compiled import compiled

I4 = types.Array(types.int32, 1, "C")
F1, F2 = (types.Array(types.float64, n, "C") for n in (1, 2))


@compiled(types.void(I4, I4, F1, F2, types.boolean))
def solve_unit(start, indices, values, right, transposed):
    """right becomes L^-1 right, or L'^-1 right."""
    n, m = right.shape
    if not transposed:
        for j in range(n):
            for e in range(start[j], start[j + 1]):
                i, x = indices[e], values[e]
                for k in range(m):
                    right[i, k] -= x * right[j, k]
        return
    for j in range(n - 1, -1, -1):
        for e in range(start[j], start[j + 1]):
            i, x = indices[e], values[e]
            for k in range(m):
                right[j, k] -= x * right[i, k]


@compiled(types.void(I4, I4, F1, F1, F1))
def inverse_on_pattern(start, indices, values, D, out):
    """Entries of (L D L')^-1: out (entries + n,) those of L's pattern, then the diagonal."""
    n, first = len(D), len(values)
    column = np.zeros(n)
    for j in range(n - 1, -1, -1):
        a, b = start[j], start[j + 1]
        for e in range(a, b):
            column[indices[e]] = 0.0
        for e in range(a, b):
            k, x = indices[e], values[e]
            column[k] -= x * out[first + k]
            # entries (i, k) with i > k: i is in column k as both are in column j
            f = e + 1
            for g in range(start[k], start[k + 1]):
                if f == b:
                    break
                if indices[g] == indices[f]:
                    column[indices[f]] -= x * out[g]
                    column[k] -= values[f] * out[g]
                    f += 1
        own = 1.0 / D[j]
        for e in range(a, b):
            out[e] = column[indices[e]]
            own -= values[e] * out[e]
        out[first + j] = own
