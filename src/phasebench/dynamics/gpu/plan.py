"""One chunk of tokens through the fused flow and back: buffers, launches, and their CUDA graphs.

Legend: as in `kernels`.  A kick's products: forward n W^T and S W, of N tokens; backward (n, y) W^T
and (C, S) W, of N / 2 tokens, and dW = (C, S)^T (n, y).  The first two then have the same shapes in
both directions, so the same kernels, whose rows do not know where they stand: the same bits.

The launches cost the host more than the device needs for them.  On a GPU they are recorded once a
plan and replayed; a plan serves every layer of the same sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phasebench.dynamics.gpu import launch as gpu
from phasebench.dynamics.integrators import Schedule, Shear
from phasebench.dynamics.lattice import LIMITS
from phasebench.dynamics.perceptron import POTENTIALS, Activation

LIMIT = LIMITS[torch.int32]
KINDS = {sigma: kind for kind, sigma in enumerate(POTENTIALS.values())}
BLOCK = 1024  # numbers a program of an elementwise kernel
GROUP, GROUP_ROWS, COLUMNS = 16, 4, 128  # of the kernel that sums over tokens


def launch(name: str, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run a kernel of `kernels` on a grid, as its arithmetic must be."""
    module = "phasebench.dynamics.gpu.kernels"
    gpu.launch(module, name, grid, *args, **constants, enable_fp_fusion=False)


def blocks(X: Tensor) -> tuple[int, ...]:
    """Return the grid of an elementwise kernel."""
    return (-(-X.numel() // BLOCK),)


def pairs(shears: Sequence[Shear]) -> list[tuple[float | None, float]]:
    """Pair the size h of each kick with that of the drift after it.

    The first pair has no kick (None), and no drift either where the shears begin with a kick.

    Examples:
        >>> pairs(Schedule("leapfrog", 1.0, 1).shears)
        [(None, 0.0), (0.5, 1.0), (0.5, 0.0)]
    """
    found: list[tuple[float | None, float]] = [(None, 0.0)]
    for shear in shears:
        if shear.kind == "kick":
            found.append((shear.h, 0.0))
        else:
            h, d = found[-1]
            found[-1] = h, d + shear.h
    return found


@dataclass(frozen=True)
class Shape:
    """What determines a plan's launches, and so its recording.

    Attributes:
        rows: N, tokens at a time forward; half as many backward, with n and y in one product.
        precision: of products of float32 numbers (`torch.get_float32_matmul_precision`).
        stream: on which it runs; two streams must not share buffers.
    """

    rows: int
    D: int
    H: int
    dtype: torch.dtype
    device: torch.device
    schedule: Schedule
    sigma: Activation
    eps: float | None
    precision: str
    stream: int

    @property
    def half(self) -> int:
        """Tokens at a time backward."""
        return self.rows // 2


class Plan:
    """Buffers, a layer's weights as the kernels take them, and the flow on these buffers.

    Attributes:
        QP: integers (2, N, D), which `forward` takes through the flow.
        wv: adjoints (2, N / 2, D), which `backward` takes back with the first N / 2 of QP.
        sr, norms, largest: (s, r), norm and largest of `kernels`; check: the checksum so far.
        dW, dab, dc: to which `backward` adds the gradients; of a, b and c in parts, one a row.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        N, D, H, half = shape.rows, shape.D, shape.H, shape.half
        new = functools.partial(torch.empty, dtype=shape.dtype, device=shape.device)
        self.W, self.X, self.G, self.Y = new(H, D), new(N, D), new(N, D), new(N, H)
        new = functools.partial(torch.empty, dtype=torch.float32, device=shape.device)
        self.ab, self.c, self.sr, self.norms, self.largest = (
            new(2, H),
            new(D),
            new(2, N),
            new(N),
            new(()),
        )
        self.wv, self.dW, self.dc = new(2, half, D), new(H, D), new(half, D)
        self.dab = new(2, -(-half // GROUP), H)
        self.QP = torch.empty(2, N, D, dtype=torch.int32, device=shape.device)
        self.check = torch.empty((), dtype=torch.int64, device=shape.device)
        self.row = {"NORM": shape.eps is not None, "D": D, "WIDTH": 1 << (D - 1).bit_length()}
        self.forward, self.backward = self._advance, self._retreat

    def pretend(self) -> None:
        """From now on do nothing: `forward` and `backward` take no memory beside these buffers."""
        self.forward = self.backward = lambda: None

    def take(self, W: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
        """Take over a layer's weights; sums, and what is remembered of the states, from zero."""
        torch._foreach_copy_([self.W, *self.ab, self.c], [W, a, b, c])  # pyright: ignore
        sums = [self.largest, self.check, self.dW, self.dab, self.dc]
        torch._foreach_zero_(sums)  # pyright: ignore

    def _advance(self) -> None:
        for h, d in pairs(self.shape.schedule.shears):
            if h is not None:
                S, KIND = torch.mm(self.X, self.W.T, out=self.Y), KINDS[self.shape.sigma]
                size = S.numel()
                launch(
                    "slope", blocks(S), S, *self.ab, size, H=self.shape.H, KIND=KIND, BLOCK=BLOCK
                )
                torch.mm(S, self.W, out=self.G)
            launch(
                "shear",
                (self.shape.rows,),
                *(*self.QP, self.G, *self.sr, self.c, self.norms, self.X, self.largest),
                *(h or 0.0, d, self.shape.eps or 0.0),
                KICK=h is not None,
                LIMIT=LIMIT,
                **self.row,
            )

    def _retreat(self) -> None:
        """Of the first half of Q and P."""
        x, u = self.G.split(self.shape.half)
        for h, d in pairs(self.shape.schedule.shears[::-1]):
            if h is not None:
                self._transpose(h)
            launch(
                "unshear",
                (self.shape.half,),
                *(*self.QP, *self.wv, u, x, *self.sr, self.c, self.norms, self.X, self.dc),
                *(h or 0.0, d, self.shape.eps or 0.0, x.numel()),
                KICK=h is not None,
                **self.row,
            )

    def _transpose(self, h: float) -> None:
        """From X = (n, y) to Y = (C, S) and G = (x, u); adds to dW, da and db."""
        half, H = self.shape.half, self.shape.H
        z, U = torch.mm(self.X, self.W.T, out=self.Y).split(half)
        launch(
            "slopes",
            (self.dab.shape[1], -(-H // COLUMNS)),
            *(z, U, *self.ab, *self.dab, h, half),
            H=H,
            KIND=KINDS[self.shape.sigma],
            GROUP=GROUP,
            R=GROUP_ROWS,
            B=COLUMNS,
            num_warps=1,
        )
        torch.mm(self.Y, self.W, out=self.G)
        if self.dW.dtype == self.X.dtype:
            self.dW.addmm_(self.Y.T, self.X, alpha=-h)
        else:
            torch.addmm(self.dW, self.Y.T, self.X, out_dtype=torch.float32, alpha=-h, out=self.dW)


def recorded(run: Callable[[], None]) -> Callable[[], None]:
    """Record the kernels launched by run() as one CUDA graph; run them once before, to compile."""
    graph, stream = torch.cuda.CUDAGraph(), _stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    stream.synchronize()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


@functools.cache
def _stream(device: int) -> torch.cuda.Stream:
    """The stream of all recordings: cuBLAS keeps a workspace for each that it has been used on."""
    return torch.cuda.Stream(device)
