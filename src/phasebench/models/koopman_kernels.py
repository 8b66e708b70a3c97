"""Triton kernel of the memory: one pass over the states, in their precision.

Legend: as in `koopman`: u, m complex states (B, T, 2 D), held as [Re | Im], lam = x + i y of (D).

With TRITON_INTERPRET=1 it runs on the CPU, for tests.
"""
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _then(lx, ly, mx, my, kx, ky, nx, ny):
    """m -> lam m + n after m -> kappa m + ...: (lam, m) and then (kappa, n), both complex."""
    return lx * kx - ly * ky, lx * ky + ly * kx, kx * mx - ky * my + nx, kx * my + ky * mx + ny


@triton.jit
def accumulate(u, x, y, m, T, D, ROWS: tl.constexpr, BLOCK: tl.constexpr, BACKWARDS: tl.constexpr):
    """m_t = lam m_(t-1) + u_t, or from the end, of a block of channels of one sequence.

    ROWS tokens at a time, so that their loads wait for each other's no longer than once.
    """
    d, t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROWS)
    lx, ly = tl.load(x + d, mask=d < D, other=0.0), tl.load(y + d, mask=d < D, other=0.0)
    every = tl.zeros((ROWS, BLOCK), lx.dtype)
    last_x, last_y = tl.zeros((BLOCK,), lx.dtype), tl.zeros((BLOCK,), lx.dtype)
    for first in range(0, T, ROWS):
        row = T - 1 - first - t if BACKWARDS else first + t
        mask = ((row >= 0) & (row < T))[:, None] & (d < D)[None]
        at = (tl.program_id(0).to(tl.int64) * T + row)[:, None] * (2 * D) + d[None]
        ux, uy = tl.load(u + at, mask=mask, other=0.0), tl.load(u + at + D, mask=mask, other=0.0)
        begins = (t == 0)[:, None]
        ux += tl.where(begins, (lx * last_x - ly * last_y)[None], 0.0)
        uy += tl.where(begins, (lx * last_y + ly * last_x)[None], 0.0)
        _, _, mx, my = tl.associative_scan((every + lx[None], every + ly[None], ux, uy), 0, _then)
        tl.store(m + at, mx, mask=mask)
        tl.store(m + at + D, my, mask=mask)
        ends = (t == ROWS - 1)[:, None]
        last_x, last_y = tl.sum(tl.where(ends, mx, 0.0), 0), tl.sum(tl.where(ends, my, 0.0), 0)
