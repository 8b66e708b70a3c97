"""Triton kernels of the flow on a lattice: all that is between the matrix products of a kick.

Legend: as in `perceptron`, `adjoint` and `lattice`: Q, P integers; s, r a token's spacings of q
and p, powers of two; largest |Q| or |P| that was too large, else 0; q, p, w, v float32; norm =
(<q^2> + eps)^(-1/2), n = norm q, y = J v; z = W n + b and U = W y, rows of H numbers in the
precision of the products; S = a . sigma'(z), C = a . sigma''(z) . U; u = S W, x = C W, rows of D;
h, d the sizes of a kick and of the drift after it.

The reversal needs the forward pass' bits.  So multiplications and additions are never fused
(`enable_fp_fusion=False` at every launch, see `plan.launch`), and the sums over a row that forces
depend on are exact ones of integers: whatever order a kernel adds them in, the bits are the same.

With TRITON_INTERPRET=1 they run on the CPU, for tests.
"""
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

# in the order of `POTENTIALS`
LOGCOSH, GELU, SOFTPLUS, GELU_INTEGRAL = (tl.constexpr(i) for i in range(4))


@triton.jit
def _rint(x):
    """To the nearest integer, halves to even.

    By adding and taking away 2^23, above which float32 holds integers only.
    """
    up = tl.where(x >= 0, (x + 8388608.0) - 8388608.0, (x - 8388608.0) + 8388608.0)
    return tl.where(tl.abs(x) < 8388608.0, up, x)


@triton.jit
def _gelu_slope(z):
    return 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * (
        0.3989422804014327 * tl.exp(-0.5 * z * z)
    )


@triton.jit
def _slope(z, KIND: tl.constexpr):
    """sigma'(z)"""
    if KIND == LOGCOSH:
        e = tl.exp(-2.0 * tl.abs(z))
        t = (1.0 - e) / (1.0 + e)
        return tl.where(z < 0, -t, t)
    if KIND == GELU:
        return _gelu_slope(z)
    if KIND == GELU_INTEGRAL:
        return z * (0.5 * (1.0 + tl.erf(z * 0.7071067811865476)))
    e = tl.exp(-tl.abs(z))
    return tl.where(z < 0, e / (1.0 + e), 1.0 / (1.0 + e))


@triton.jit
def _curvature(z, slope, KIND: tl.constexpr):
    """sigma''(z)"""
    if KIND == LOGCOSH:
        return 1.0 - slope * slope
    if KIND == GELU:
        return 0.3989422804014327 * tl.exp(-0.5 * z * z) * (2.0 - z * z)
    if KIND == GELU_INTEGRAL:
        return _gelu_slope(z)
    return slope * (1.0 - slope)


@triton.jit
def _size(x):
    """|x|, with NaN as infinity"""
    return tl.where(x == x, tl.abs(x), float("inf"))


@triton.jit
def _remember(size, largest, LIMIT: tl.constexpr):
    """largest = max(largest, size) where that is beyond LIMIT."""
    top = tl.max(size, 0)
    if top >= LIMIT:
        tl.atomic_max(largest, top)


@triton.jit
def _spacing(reach, FINEST: tl.constexpr):
    """The least power of two >= reach, but no finer than 2^(FINEST - 127), by float32's bits."""
    bits = reach.to(tl.int32, bitcast=True)
    exponent = (bits >> 23) + ((bits & 0x7FFFFF) != 0).to(tl.int32)
    return (tl.minimum(tl.maximum(exponent, FINEST), 253) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _mean(x, D: tl.constexpr):
    """The mean of a row, in bits that do not depend on the order of its sum.

    In integers: units of which the largest x has 2^40.
    """
    unit = _spacing(tl.max(tl.abs(x), 0), 60) * 9.094947017729282e-13
    return tl.sum((x / unit).to(tl.int64), 0).to(tl.float32) * unit / D


@triton.jit
def _norm(q, eps, D: tl.constexpr, NORM: tl.constexpr):
    """(<q^2> + eps)^(-1/2), or 1"""
    if NORM:
        return tl.rsqrt(_mean(q * q, D) + eps)
    return 1.0


@triton.jit
def _force(u, n, norm, D: tl.constexpr, NORM: tl.constexpr):
    """F = -norm (u - n m), and m = <n u>"""
    if NORM:
        m = _mean(n * u, D)
        return -(norm * (u - n * m)), m
    return -u, 0.0


@triton.jit
def _keep(q, s, Q, X, norms, i, row, mask, eps, D: tl.constexpr, NORM: tl.constexpr):
    """Store q, the norm and X = n for the next product; returns n and the norm."""
    tl.store(Q + i, q, mask=mask)
    q_ = q.to(tl.float32) * s
    norm = _norm(q_, eps, D, NORM)
    tl.store(norms + row, norm)
    tl.store(X + i, (norm * q_).to(X.dtype.element_ty), mask=mask)
    return norm * q_, norm


@triton.jit
def _hessian(x, u, v, n, norm, m, D: tl.constexpr, NORM: tl.constexpr):
    """V''(q) v, from x and u (`perceptron.curvature`)"""
    if NORM:
        mu, kappa, xi = tl.sum(n * v, 0) / D, tl.sum(u * v, 0) / D, tl.sum(n * x, 0) / D
        return norm * (x - n * xi - norm * (mu * u + m * v + (kappa - 3.0 * mu * m) * n))
    return x


@triton.jit
def _add_checksum(Q, P, i, offset, total, check):
    """check += sum of X_i (2 i + 1) modulo 2^64, i over Q, then P (`lattice.checksum`)."""
    odd = 2 * (i.to(tl.int64) + offset) + 1
    tl.atomic_add(check, tl.sum(Q.to(tl.int64) * odd + P.to(tl.int64) * (odd + 2 * total), 0))


@triton.jit
def encode(
    q, p, stride_q, stride_p, c, Q, P, s, r, s_end, r_end, largest, check, first, total, tokens,
    time, scale, of_p, kicked,
    D: tl.constexpr, WIDTH: tl.constexpr, FINEST: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """Choose a token's spacings, as `Lattice.around` does, and round it; zeros from `tokens` on."""
    row = tl.program_id(0)
    col = tl.arange(0, WIDTH)
    inside = col < D
    mask = col < tl.where(row < tokens, D, 0)
    x = tl.load(q + row.to(tl.int64) * stride_q + col, mask=mask, other=0.0)
    y = tl.load(p + row.to(tl.int64) * stride_p + col, mask=mask, other=0.0)
    reach = time * tl.max(tl.load(c + col, mask=inside, other=0.0), 0)
    at, speed = tl.max(_size(x), 0), tl.maximum(tl.max(_size(y), 0), kicked)
    s_ = _spacing(scale * (at + reach * speed), FINEST)
    r_ = _spacing(scale * of_p * speed, FINEST)
    x, y = _rint(x / s_), _rint(y / r_)
    _remember(tl.maximum(_size(x), _size(y)), largest, LIMIT)
    Q_, P_ = x.to(tl.int32), y.to(tl.int32)
    tl.store(Q + row * D + col, Q_, mask=inside)
    tl.store(P + row * D + col, P_, mask=inside)
    tl.store(s + row, s_)
    tl.store(r + row, r_)
    if row < tokens:
        tl.store(s_end + row, s_)
        tl.store(r_end + row, r_)
    _add_checksum(Q_, P_, row * D + col, first * D, total, check)


@triton.jit
def _float(X, spacing, x, rest, i, mask, good, D: tl.constexpr):
    """x = X s, NaN unless good, and what rounding to a float cut off X (`lattice.low_bits`)."""
    units, s = tl.load(X + i, mask=mask, other=0), tl.load(spacing + i // D, mask=mask, other=1.0)
    value = units.to(tl.float32) * s
    tl.store(x + i, tl.where(good, value, float("nan")), mask=mask)
    tl.store(rest + i, (units - _rint(value / s).to(tl.int32)).to(tl.int8), mask=mask)


@triton.jit
def _integer(x, rest, spacing, X, s, i, mask, inside, D: tl.constexpr):
    """X and s of what `_float` and `encode` kept; zeros where only inside, not mask."""
    unit = tl.load(spacing + i // D, mask=mask, other=1.0)
    units = _rint(tl.load(x + i, mask=mask, other=0.0) / unit).to(tl.int32)
    tl.store(X + i, units + tl.load(rest + i, mask=mask, other=0).to(tl.int32), mask=inside)
    tl.store(s + i // D, unit, mask=inside)


@triton.jit
def finish(
    Q, P, s, r, largest, check, q, p, rest_q, rest_p, largest_end, start, size,
    D: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Keep the end, largest and the checksum; NaN if anything has left the lattice's range."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    good = tl.load(largest) < LIMIT
    _float(Q, s, q, rest_q, i, i < size, good, D)
    _float(P, r, p, rest_p, i, i < size, good, D)
    if tl.program_id(0) == 0:
        tl.store(largest_end, tl.load(largest))
        tl.store(start, tl.load(check))


@triton.jit
def load(
    q, p, rest_q, rest_p, s_end, r_end, dq, dp, stride_q, stride_p, Q, P, s, r, w, v, size, room,
    D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What a backward pass begins with; zeros from `size` to `room` add nothing to any sum."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask, inside = i < size, i < room
    _integer(q, rest_q, s_end, Q, s, i, mask, inside, D)
    _integer(p, rest_p, r_end, P, r, i, mask, inside, D)
    row, col = (i // D).to(tl.int64), i % D
    tl.store(w + i, tl.load(dq + row * stride_q + col, mask=mask, other=0.0), mask=inside)
    tl.store(v + i, tl.load(dp + row * stride_p + col, mask=mask, other=0.0), mask=inside)


@triton.jit
def tally(Q, P, check, offset, total, size, BLOCK: tl.constexpr):
    """Add the states that a backward pass ends with to the checksum."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    Q_, P_ = tl.load(Q + i, mask=i < size, other=0), tl.load(P + i, mask=i < size, other=0)
    _add_checksum(Q_, P_, i, offset, total, check)


@triton.jit
def judge(largest, check, start, facts, poison, LIMIT: tl.constexpr):
    """facts = (largest, whether a reversal missed its start) so far; poison NaN if wrong."""
    top = tl.load(largest)
    missed = tl.load(check) != tl.load(start)
    tl.store(facts, tl.maximum(tl.load(facts), top))
    tl.store(facts + 1, tl.maximum(tl.load(facts + 1), missed.to(tl.float32)))
    tl.store(poison, tl.where(missed | (top >= LIMIT), float("nan"), 0.0))


@triton.jit
def slope(Z, a, b, size, H: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Z = W n becomes S = a . sigma'(Z + b)."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < size
    z = tl.load(Z + i, mask=mask, other=0.0).to(tl.float32) + tl.load(b + i % H)
    tl.store(Z + i, (tl.load(a + i % H) * _slope(z, KIND)).to(Z.dtype.element_ty), mask=mask)


@triton.jit
def slopes(
    Z, U, a, b, da, db, h, rows,
    H: tl.constexpr, KIND: tl.constexpr, GROUP: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Z = W n becomes C, with the bits of `slope` U becomes S; adds to da and db.

    -h sum sigma' U and -h sum C. da and db have a row for each GROUP rows of Z, which only one
    program writes: sums then do not depend on the order.
    """
    group = tl.program_id(0)
    col = tl.program_id(1) * B + tl.arange(0, B)
    inside = col < H
    a_ = tl.load(a + col, mask=inside, other=0.0)[None, :]
    b_ = tl.load(b + col, mask=inside, other=0.0)[None, :]
    sum_a = tl.zeros((R, B), tl.float32)
    sum_b = tl.zeros((R, B), tl.float32)
    for start in range(0, GROUP, R):
        row = group * GROUP + start + tl.arange(0, R)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * H + col[None, :]
        z = tl.load(Z + at, mask=mask, other=0.0).to(tl.float32) + b_
        u = tl.load(U + at, mask=mask, other=0.0).to(tl.float32)
        slope = _slope(z, KIND)
        C = a_ * _curvature(z, slope, KIND) * u
        tl.store(Z + at, C.to(Z.dtype.element_ty), mask=mask)
        tl.store(U + at, (a_ * slope).to(U.dtype.element_ty), mask=mask)
        sum_a += slope * u
        sum_b += C
    at_a = da + group * H + col
    at_b = db + group * H + col
    tl.store(at_a, tl.load(at_a, mask=inside) - h * tl.sum(sum_a, 0), mask=inside)
    tl.store(at_b, tl.load(at_b, mask=inside) - h * tl.sum(sum_b, 0), mask=inside)


@triton.jit
def shear(
    Q, P, U, s, r, c, norms, X, largest, h, d, eps,
    KICK: tl.constexpr, NORM: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
    LIMIT: tl.constexpr,
):  # fmt: skip
    """A token's kick by h (where KICK), then its drift by d; X = n for the next product."""
    row, col = tl.program_id(0), tl.arange(0, WIDTH)
    i, mask = row * D + col, col < D
    q, p = tl.load(Q + i, mask=mask, other=0), tl.load(P + i, mask=mask, other=0)
    s_, r_ = tl.load(s + row), tl.load(r + row)
    seen = tl.zeros((WIDTH,), tl.float32)
    if KICK:
        u = tl.load(U + i, mask=mask, other=0.0).to(tl.float32)
        norm = tl.load(norms + row)
        n = norm * (q.to(tl.float32) * s_)
        F, _ = _force(u, n, norm, D, NORM)
        kick = _rint(h * F / r_)
        p += kick.to(tl.int32)
        seen = tl.maximum(_size(kick), tl.abs(p.to(tl.float32)))
        tl.store(P + i, p, mask=mask)
    c_ = tl.load(c + col, mask=mask, other=0.0)
    drift = _rint(d * (c_ * (p.to(tl.float32) * r_)) / s_)
    q += drift.to(tl.int32)
    seen = tl.maximum(seen, tl.maximum(_size(drift), tl.abs(q.to(tl.float32))))
    _remember(seen, largest, LIMIT)
    _keep(q, s_, Q, X, norms, i, row, mask, eps, D, NORM)


@triton.jit
def unshear(
    Q, P, w, v, U, G, s, r, c, norms, X, dc, h, d, eps, size,
    KICK: tl.constexpr, NORM: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Undo a token's kick by h (where KICK), then its drift by d, and transpose them.

    X = (n, y), one after the other, for the next product. The kick: P -= round(h F / r) and
    w -= h V''(q) v, with u, x in U, G. The drift: Q -= round(d c p / s), v += d c w; dc has a row
    a token, to which it adds d p w.
    """
    row, col = tl.program_id(0), tl.arange(0, WIDTH)
    i, mask = row * D + col, col < D
    q, p = tl.load(Q + i, mask=mask, other=0), tl.load(P + i, mask=mask, other=0)
    w_, v_ = tl.load(w + i, mask=mask, other=0.0), tl.load(v + i, mask=mask, other=0.0)
    s_, r_ = tl.load(s + row), tl.load(r + row)
    if KICK:
        u = tl.load(U + i, mask=mask, other=0.0).to(tl.float32)
        x = tl.load(G + i, mask=mask, other=0.0).to(tl.float32)
        norm = tl.load(norms + row)
        n = norm * (q.to(tl.float32) * s_)
        F, m = _force(u, n, norm, D, NORM)
        p -= _rint(h * F / r_).to(tl.int32)
        tl.store(P + i, p, mask=mask)
        w_ -= h * _hessian(x, u, v_, n, norm, m, D, NORM)
        tl.store(w + i, w_, mask=mask)
    c_ = tl.load(c + col, mask=mask, other=0.0)
    p_ = p.to(tl.float32) * r_
    q -= _rint(d * (c_ * p_) / s_).to(tl.int32)
    tl.store(dc + i, tl.load(dc + i, mask=mask, other=0.0) + d * (p_ * w_), mask=mask)
    v_ += d * (c_ * w_)
    tl.store(v + i, v_, mask=mask)
    n, norm = _keep(q, s_, Q, X, norms, i, row, mask, eps, D, NORM)
    y = v_
    if NORM:
        y = norm * (v_ - n * (tl.sum(n * v_, 0) / D))
    tl.store(X + size + i, y.to(X.dtype.element_ty), mask=mask)
