"""Linear map, activation, norm, dropout and embedding of complex states.

z = x + i y is held as one real tensor [x | y] of shape (..., 2 D): matrix products, autocast and
fused attention then work on it unchanged. Legend: A, B real and imaginary part of a weight; g gain;
b bias of modReLU.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.models.tied_table import Deferred, lookup

Past = dict[str, Any]  # what layers keep of the tokens before, by names of their own
BLANK = 0.02  # every coordinate of a dropped row: as large as those of a fresh table


def within(past: Past | None, name: str) -> Past | None:
    """Return a layer's own part of a past, which is empty at first; None of no past."""
    return None if past is None else past.setdefault(name, {})


class ComplexLinear(nn.Module):
    """z -> (A + i B) z, without bias: one real product with the block matrix [[A, -B], [B, A]].

    The entries are drawn so that E|A + i B|^2 = gain^2 / D_in, which keeps the mean of |z|^2 for
    gain 1 (Trabelsi et al. 2018, "Deep Complex Networks", section 3.6).

    Examples:
        >>> layer = ComplexLinear(3, 5)
        >>> layer(torch.zeros(2, 6)).shape
        torch.Size([2, 10])
    """

    def __init__(self, d_in: int, d_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, d_out, d_in) * gain / (2 * d_in) ** 0.5)

    def matrix(self) -> Float[Tensor, "out2 in2"]:
        """The real block matrix of the map."""
        A, B = self.weight
        return torch.cat((torch.cat((A, -B), 1), torch.cat((B, A), 1)))

    def forward(self, z: Float[Tensor, "... in2"]) -> Float[Tensor, "... out2"]:
        return F.linear(z, self.matrix())


class ModReLU(nn.Module):
    """z -> relu(|z| + b) z / |z|: the phase is kept (Arjovsky, Shah, Bengio 2016, equation 8)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.full((dim,), -0.1))

    def forward(self, z: Float[Tensor, "... dim2"]) -> Float[Tensor, "... dim2"]:
        x, y = z.float().chunk(2, -1)
        modulus = (
            x * x + y * y + 1e-6
        ).sqrt()  # bounds the derivative at zero, b / 1e-3, where b is positive
        scale = F.relu(modulus + self.b) / modulus
        return torch.cat((x * scale, y * scale), -1).to(z.dtype)


class ComplexNorm(nn.Module):
    """z -> g z / sqrt(mean_d |z_d|^2 + eps), with a real gain g per channel, so that phases are
    kept.

    Without the gain, which a linear map that follows can absorb, a backward pass needs one tensor
    less.
    """

    def __init__(self, dim: int, *, gain: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim)) if gain else None
        self.eps = eps

    def forward(self, z: Float[Tensor, "... dim2"]) -> Float[Tensor, "... dim2"]:
        mean_square = 2 * z.square().mean(
            -1, keepdim=True
        )  # of [x | y]: twice, since |z|^2 = x^2 + y^2
        n = z * (mean_square + self.eps).rsqrt()
        return n if self.g is None else n * self.g.repeat(2)


class ComplexDropout(nn.Module):
    """Sets complex channels, both parts at once, to zero with probability rate in training and
    rescales the rest.

    locked: the same channels at all positions of a sequence, on states (B, T, 2 D) (Gal &
    Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks";
    AWD-LSTM's, Merity et al. 2018).
    """

    def __init__(self, rate: float, *, locked: bool = False) -> None:
        super().__init__()
        self.rate, self.locked = rate, locked

    def forward(self, z: Float[Tensor, "... dim2"]) -> Float[Tensor, "... dim2"]:
        if not self.training or self.rate == 0.0:
            return z
        parts = z.unflatten(-1, (2, -1))
        one = parts[..., :1, :1, :] if self.locked else parts[..., :1, :]
        return (parts * F.dropout(torch.ones_like(one), self.rate)).flatten(-2)


class LockedDropout(nn.Module):
    """Dropout of real channels, the same at all positions of a sequence."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if not self.training or self.rate == 0.0:
            return x
        return x * F.dropout(torch.ones_like(x[:, :1]), self.rate)


class ComplexEmbedding(nn.Module):
    """A complex table e of shape (V, D); in training whole rows are dropped with probability
    `rate`.

    Row dropout is the embedding dropout of Gal & Ghahramani (2016), but a dropped row is read as
    `BLANK`, and the others as they are. Zero would stay zero in every layer for the first token of
    a sequence, and each norm there multiplies the gradient by 1 / sqrt(eps): after some layers it
    is infinite. `weight` is also the tied head's: logit_v = Re<e_v, z> = [Re e_v | Im e_v] . [Re z
    | Im z].
    """

    def __init__(self, vocab_size: int, dim: int, rate: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, 2 * dim) * 0.02)
        self.rate = rate

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T dim2"]:
        return self._dropped(F.embedding(tokens, self.weight), tokens)

    def tied(
        self, tokens: Int[Tensor, "B T"], deferred: Deferred
    ) -> tuple[Float[Tensor, "B T dim2"], Float[Tensor, "V dim2"]]:
        """Return the states, and the table for a head: one gradient for both (`tied_table`)."""
        z, head = lookup(self.weight, tokens, deferred)
        return self._dropped(z, tokens), head

    def _dropped(self, z: Tensor, tokens: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return z
        keep = F.dropout(self.weight.new_ones(self.weight.shape[0], 1), self.rate)
        return torch.where(F.embedding(tokens, keep) > 0, z, BLANK)
