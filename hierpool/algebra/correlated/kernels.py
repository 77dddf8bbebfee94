"""Compiled loops of whitening: over values of the parameters, then over rows."""

from __future__ import annotations

import numpy as np

from hierpool.core.compiled import compiled

_M, _V, _T = "float64[:, ::1]", "int64[::1]", "float64[:, :, ::1]"


@compiled(f"void({_M}, {_V}, {_V}, {_V}, {_M}, {_M}, {_T}, {_M})")
def markov(columns, where, classes, step, log_sd, r, out, log_det):  # type: ignore[no-untyped-def]
    """Each row less what the row before says of it."""
    n, w = columns.shape
    for k in range(len(log_sd)):
        for i in range(n):
            at, scale = where[i], np.exp(-log_sd[k, classes[i]])
            rho = r[k, step[i]]
            left = 1.0 - rho * rho
            log_det[k, i] = log_sd[k, classes[i]] + 0.5 * np.log(left)
            factor = 1.0 / np.sqrt(left)
            if step[i] == 0:
                for m in range(w):
                    out[k, at, m] = columns[i, m] * scale
            else:
                before = np.exp(-log_sd[k, classes[i - 1]])
                for m in range(w):
                    own = columns[i, m] * scale - rho * columns[i - 1, m] * before
                    out[k, at, m] = own * factor


@compiled(f"void({_M}, {_V}, {_V}, {_V}, {_V}, {_M}, {_M}, {_T}, {_M})")
def by_pattern(columns, where, classes, starts, offsets, log_sd, inverse, out, log_det):  # type: ignore[no-untyped-def]
    """The rows of each group times the inverse Cholesky factor of its pattern."""
    w = columns.shape[1]
    for k in range(len(log_sd)):
        for g in range(len(starts) - 1):
            a = starts[g]
            n = starts[g + 1] - a
            for i in range(n):
                at = where[a + i]
                diagonal = inverse[k, offsets[g] + i * n + i]
                log_det[k, a + i] = log_sd[k, classes[a + i]] - np.log(diagonal)
                for j in range(i + 1):
                    entry = inverse[k, offsets[g] + i * n + j]
                    entry *= np.exp(-log_sd[k, classes[a + j]])
                    for m in range(w):
                        out[k, at, m] += entry * columns[a + j, m]
