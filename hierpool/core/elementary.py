"""exp and log1p for compiled loops, without a call: loops over them are vectorised.

Rounding is what they work by: ``fastmath=False`` keeps the options of a loop around them out.
Compiled loops are cached by the file that they stand in: after a change here delete their caches.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_FARTHEST = 700.0
_TO_BASE_TWO = 1.4426950408889634  # 1 / log 2
_LOG_2_HIGH, _LOG_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: what is added has its integer part in the last bits
_ROUND_BITS = 0x4338000000000000
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD


@njit(error_model="numpy", fastmath=False)
def fast_exp(x):
    """exp(x), x cut off at -700 and 700."""
    x = min(max(x, -_FARTHEST), _FARTHEST)
    rounded = x * _TO_BASE_TWO + _ROUND
    n = rounded - _ROUND
    # log 2 in two parts (Cody and Waite): n times the high one is exact, so r keeps its digits.
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
    # The last bits are n: with the bias of 1023 and shifted, they are the exponent of 2^n.
    bits = np.float64(rounded).view(np.int64)
    return p * np.int64((bits + 1023) << 52).view(np.float64)


@njit(error_model="numpy", fastmath=False)
def fast_log1p(x):
    """log(1 + x) for 0 <= x <= 1e300, to the last digits of small x too.

    1 + x = 2^n (1 + f), f from sqrt(1/2) - 1 to sqrt(2) - 1, and log(1 + f) by its series in
    f / (2 + f), with the coefficients of fdlibm (Sun Microsystems 1993).
    """
    bits = np.float64(1.0 + x).view(np.int64)
    exponent = (bits - _ROOT_HALF_BITS) >> 52
    n = np.int64(exponent + _ROUND_BITS).view(np.float64) - _ROUND
    f = x if exponent == 0 else np.int64(bits - (exponent << 52)).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01
    p = p * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    half = 0.5 * f * f
    return n * _LOG_2_HIGH + (f - (half - (s * (half + p * z) + n * _LOG_2_LOW)))
