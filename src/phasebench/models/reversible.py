"""Stage 2 whose residual stream lives on a lattice: every block is undone bit for bit.

A token's state is (q, p), each of 2 D real channels: q begins as the embedded token, p at rest. A
block is made of shears only, so that its input follows from its output (`dynamics.lattice`):

    attention   P += round(m A(norm(q)) / s)         reads q alone; m a dropout mask
    flow        kicks and drifts of H on (q, p)      (`dynamics.adjoint_exact`)

The head reads q. The backward pass rebuilds the blocks from the last one's output and holds nothing
a block, however deep the model is. Reversible networks: Gomez et al. 2017; on a lattice: Stam 2022,
arXiv 2207.07695. A mask depends on the seed of the pass, the layer and the place alone, so that it
is drawn again instead of kept.

Legend: as in `dynamics.adjoint_exact`: Q, P integers, s spacing, w = dL/dq, v = dL/dp.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from phasebench.config import ModelConfig
from phasebench.dynamics.adjoint_exact import advance, retreat
from phasebench.dynamics.integrators import State
from phasebench.dynamics.lattice import Lattice, checksum
from phasebench.dynamics.precision import autocast_dtype, float32_products
from phasebench.models.attention import CausalAttention
from phasebench.models.language_model import LanguageModel
from phasebench.models.layers import ComplexDropout, ComplexEmbedding, ComplexNorm, Past, within
from phasebench.models.stage2 import build_flow

REACH = 128.0  # of |q| and |p|, an eighth of where a state leaves the lattice


class ReversibleBlock(nn.Module):
    """Attention's kick of p, then the flow, on states (q, p) of shape (B, T, 2 D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm, self.rate = ComplexNorm(config.dim), config.dropout.block
        self.locked = config.dropout.locked
        gain = (2 * config.blocks) ** -0.5
        self.attention = CausalAttention(
            config.dim, config.heads, rope_base=config.rope_base, out_gain=gain
        )
        self.ode = build_flow(config)

    def kick(
        self, q: Float[Tensor, "B T dim2"], mask: Tensor | None, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return what attention adds to p."""
        force = self.attention(self.norm(q), past)
        return force if mask is None else force * mask.repeat(1, 1, 2)

    def mask(self, q: Tensor, seed: Int[Tensor, ""], layer: int) -> Tensor | None:
        """Return the mask of that layer, for both parts of a complex channel: (B, T, D), or
        (B, 1, D) where it is the same at all positions.
        """
        if not self.training or not self.rate:
            return None
        B, T, width = q.shape
        return dropout_mask((B, 1 if self.locked else T, width // 2), seed, layer, self.rate).to(
            q.dtype
        )


def dropout_mask(
    shape: tuple[int, ...], seed: Int[Tensor, ""], stream: int, rate: float
) -> Float[Tensor, "..."]:
    """Return 0 with probability rate, else 1 / (1 - rate): a function of seed, stream and place.

    SplitMix64 (Steele, Lea & Flood 2014) of seed + stream 2^40 + place, of which 24 bits decide.
    """
    count = torch.Size(shape).numel()
    x = torch.arange(count, device=seed.device) + (seed + (stream << 40))
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    uniform = ((x >> 40) & 0xFFFFFF).float() / 2**24
    return ((uniform >= rate) / (1 - rate)).view(shape)


class _Stream(torch.autograd.Function):
    """(q, p) through all blocks on the lattice, `rows` sequences after the others."""

    @staticmethod
    def forward(
        ctx: Any, blocks: list[ReversibleBlock], rows: int, q: Tensor, p: Tensor, *weights: Tensor
    ) -> State:
        ctx.blocks, ctx.rows, ctx.sizes = blocks, rows, [x.shape for x in weights]
        ctx.products, ctx.autocast = torch.get_float32_matmul_precision(), autocast_dtype(q.device)
        seed = torch.randint(2**62, (), device=q.device)
        ctx.lattice = lattice = Lattice.of_range(q, REACH)
        Q, P = lattice.encode(q, p)
        start, ends = checksum(Q, P), []
        for part, (X, Y) in enumerate(zip(Q.split(rows), P.split(rows), strict=True)):
            for i, block in enumerate(blocks):
                x = lattice.q.decode(X).requires_grad_()
                # the kernels of the backward pass: those without a graph may round otherwise
                with torch.enable_grad():
                    force = block.kick(x, block.mask(x, seed, i + len(blocks) * part)).detach()
                Y = lattice.p.added(Y, force.to(x.dtype))
                flow = block.ode.problem(ctx.autocast)
                with torch.autocast(x.device.type, enabled=False):
                    X, Y = advance(X, Y, lattice, flow.H.cast(), flow.schedule.shears)
            ends.append((X, Y))
        Q, P = (torch.cat(parts) for parts in zip(*ends, strict=True))
        largest = torch.maximum(lattice.q.largest, lattice.p.largest)
        blocks[0].ode.watch.note(largest, torch.zeros_like(largest), Q.dtype)
        ctx.save_for_backward(Q, P, seed, start)
        return lattice.decode(Q, P)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Any, ...]:  # pyright: ignore
        (Q, P, seed, start), blocks = ctx.saved_tensors, ctx.blocks
        gradients = [torch.zeros(size, device=w.device, dtype=w.dtype) for size in ctx.sizes]
        each, begins = len(gradients) // len(blocks), []
        with float32_products(ctx.products):
            parts = zip(*(x.split(ctx.rows) for x in (Q, P, w, v)), strict=True)
            for part, (X, Y, x, y) in enumerate(parts):
                for i, block in reversed(list(enumerate(blocks))):
                    own = gradients[i * each : (i + 1) * each]
                    stream = i + len(blocks) * part
                    X, Y, x, y = _undo(block, X, Y, x, y, seed, stream, own, ctx)
                begins.append((X, Y, x, y))
        Q, P, w, v = (torch.cat(parts) for parts in zip(*begins, strict=True))
        missed = (checksum(Q, P) != start).float()
        blocks[0].ode.watch.note(torch.zeros_like(missed), missed, Q.dtype)
        return None, None, w, v, *gradients


def _undo(
    block: ReversibleBlock,
    Q: Tensor,
    P: Tensor,
    w: Tensor,
    v: Tensor,
    seed: Tensor,
    stream: int,
    gradients: list[Tensor],
    ctx: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return Q, P, w, v before the block; adds to the gradients of its weights."""
    lattice, attention = ctx.lattice, list(block.attention.parameters())
    flow, of_flow = block.ode.problem(ctx.autocast), len(gradients) - len(attention)
    shears, sums = flow.schedule.shears, gradients[:of_flow]
    Q, P, w, v = retreat(Q, P, w, v, lattice, flow.H.cast(), shears, sums)
    q = lattice.q.decode(Q).requires_grad_()
    with torch.enable_grad(), torch.autocast(q.device.type, ctx.autocast, bool(ctx.autocast)):
        force = block.kick(q, block.mask(q, seed, stream))
    P = lattice.p.subtracted(P, force.detach().to(q.dtype))
    dq, *dA = torch.autograd.grad(force, [q, *attention], v.to(force.dtype))
    for total, gradient in zip(gradients[of_flow:], dA, strict=True):
        total += gradient
    return Q, P, w + dq, v


class ReversibleLanguageModel(LanguageModel):
    """Tokens -> logits: `model.stream=reversible` of Stage 2.

    Evaluation, and training by another gradient than `adjoint_exact`, run the same blocks in
    floating point: the stream differs from the lattice's by rounding. With "tail" in `recompute`
    one half of the batch goes through the blocks after the other, in both directions.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        drop = config.dropout
        self.embedding = ComplexEmbedding(vocab_size, config.dim, drop.embedding)
        self.scale = config.embedding_scale
        self.drop_in = ComplexDropout(drop.input, locked=drop.locked)
        self.blocks = nn.ModuleList(ReversibleBlock(config) for _ in range(config.blocks))
        self.norm = ComplexNorm(config.dim, gain=True)
        self.drop_out = ComplexDropout(drop.output, locked=drop.locked)
        self.recompute = frozenset(config.recompute)

    def compile_training(self) -> None:
        """Compile what attention does; the lattice has its own order of operations."""
        blocks: list[ReversibleBlock] = list(self.blocks)  # type: ignore[arg-type]
        for block in blocks:
            block.attention.forward = torch.compile(block.attention.forward, dynamic=False)

    def through(
        self, z: Float[Tensor, "B T dim2"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return the normalised states that the head reads, of embedded tokens."""
        q = self.drop_in(self.scale * z)
        p = torch.zeros_like(q)
        blocks: list[ReversibleBlock] = list(self.blocks)  # type: ignore[arg-type]
        if sparing and blocks[0].ode.gradient.startswith("adjoint_exact"):
            weights = [(*b.ode.problem().H.weights, *b.attention.parameters()) for b in blocks]
            flat = [w for own in weights for w in own]
            rows = -(-len(q) // 2) if "tail" in self.recompute else len(q)
            q, _ = _Stream.apply(blocks, rows, q, p, *flat)
        else:
            seed = torch.randint(2**62, (), device=q.device)
            for i, block in enumerate(blocks):
                kick = block.kick(q, block.mask(q, seed, i), within(past, str(i)))
                q, p = block.ode(q, p + kick)
        return self.drop_out(self.norm(q))
