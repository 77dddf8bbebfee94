"""exp and log that the compiler can vectorise, for loops over millions of densities. Numba.

Good to two units in the last place on their ranges; outside of them use numpy's.
"""

from __future__ import annotations

import numpy as np

from hierpool.core.compiled import compiled

_LOWEST = -700.0
_TO_BASE_TWO = 1.4426950408889634  # 1 / log 2
_LOG_2_HIGH, _LOG_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: what is added has its integer part in the last bits


@compiled("f8(f8)")
def exp_negative(x):
    """exp(x) for x <= 0; exp(-700) below that."""
    x = max(x, _LOWEST)
    rounded = x * _TO_BASE_TWO + _ROUND
    n = rounded - _ROUND
    r = x - n * _LOG_2_HIGH
    r -= n * _LOG_2_LOW
    p = 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    bits = np.float64(rounded).view(np.int64)
    return p * np.int64((bits + 1023) << 52).view(np.float64)


@compiled("f8(f8)")
def log_near_one(x):
    """log(x) for 0.5 <= x <= 2, as 2 artanh((x - 1) / (x + 1))."""
    s = (x - 1.0) / (x + 1.0)
    q = s * s
    p = 1 / 29.0
    p = p * q + 1 / 27.0
    p = p * q + 1 / 25.0
    p = p * q + 1 / 23.0
    p = p * q + 1 / 21.0
    p = p * q + 1 / 19.0
    p = p * q + 1 / 17.0
    p = p * q + 1 / 15.0
    p = p * q + 1 / 13.0
    p = p * q + 1 / 11.0
    p = p * q + 1 / 9.0
    p = p * q + 1 / 7.0
    p = p * q + 1 / 5.0
    p = p * q + 1 / 3.0
    p = p * q + 1.0
    return 2.0 * s * p
