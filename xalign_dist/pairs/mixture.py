"""How often each language pair is drawn: temperature sampling, and its shares in whole draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xalign_dist.records import Int64

Float64 = npt.NDArray[np.float64]


def sampling_shares(sizes_G: Int64, temperature: float) -> Float64:
    """p_g = n_g ** (1/T) / sum_h n_h ** (1/T), float64 ``[G]`` (Conneau et al. 2020, section 3.1).

    ``temperature`` 1 draws by size, a large one draws every group as often. An empty group gets 0.
    """
    powered_G = np.where(sizes_G > 0, np.maximum(sizes_G, 1).astype(np.float64) ** (1.0 / temperature), 0.0)
    return np.asarray(powered_G / powered_G.sum())


def apportion(shares_G: Float64, total: int, caps_G: Int64) -> Int64:
    """``total`` draws split by ``shares_G``, none above its cap, int64 ``[G]``.

    A group over its cap is held there and the rest is split anew by the others' shares;
    fractions go to the largest remainders (Hamilton's method), ties to the lower index.
    Requires ``total <= caps_G.sum()`` and a positive share wherever a cap is positive.
    """
    quota_G = np.zeros(len(shares_G), dtype=np.float64)
    free_G = caps_G > 0
    left = float(total)
    while free_G.any():
        wish_G = np.where(free_G, shares_G, 0.0)
        wish_G = wish_G * (left / wish_G.sum())
        over_G = free_G & (wish_G >= caps_G)
        if not over_G.any():
            quota_G[free_G] = wish_G[free_G]
            break
        quota_G[over_G] = caps_G[over_G]
        left -= float(caps_G[over_G].sum())
        free_G &= ~over_G
    return _round_to(quota_G, total, caps_G)


def _round_to(quota_G: Float64, total: int, caps_G: Int64) -> Int64:
    # The epsilon keeps a quota of 2.9999999 (from the division) from losing a whole draw.
    draws_G = np.floor(quota_G + 1e-9).astype(np.int64)
    order_G = np.argsort(draws_G - quota_G, kind="stable")
    room = [g for g in order_G if draws_G[g] < caps_G[g]]
    for g in room[: total - int(draws_G.sum())]:
        draws_G[g] += 1
    return draws_G
