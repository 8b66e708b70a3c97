"""One chunk of tokens through the fused flow and back: buffers, launches, and their recording as CUDA graphs.

Legend: as in `exact` and `kernels`.  A kick's products: forward Z = q W^T and S W, of n tokens; backward (Z, U) =
(q, v) W^T and (C, S) W, of n / 2 tokens, and dW = (C, S)^T (q, v).  The first two then have the same shapes in both
directions, so the same kernels, whose rows do not know where they stand: the same bits.

The launches cost the host more than the device needs for them.  On a GPU they are recorded once a plan and replayed; a
plan serves every layer of the same sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from phasebench.dynamics.gpu import launch as gpu
from phasebench.dynamics.hamiltonian import POTENTIALS, Sigma
from phasebench.dynamics.integrators import Shear
from phasebench.dynamics.lattice import LIMITS

LIMIT = LIMITS[torch.int32]
KINDS = {sigma: kind for kind, sigma in enumerate(POTENTIALS.values())}
BLOCK = 1024  # numbers a program of an elementwise kernel
GROUP, GROUP_ROWS, COLUMNS = 16, 4, 128  # of the kernel that sums over tokens


def launch(name: str, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run a kernel of `kernels` on a grid, as its arithmetic must be."""
    gpu.launch(
        "phasebench.dynamics.gpu.kernels", name, grid, *args, **constants, enable_fp_fusion=False
    )


def blocks(X: Tensor) -> tuple[int, ...]:
    """The grid of an elementwise kernel."""
    return (-(-X.numel() // BLOCK),)


@dataclass(frozen=True)
class Kick:
    """A kick by h (None: only the drift), then a drift by d."""

    h: float | None
    d: float


def pairs(shears: tuple[Shear, ...]) -> list[Kick]:
    """The shears, two at a time; the first pair has no kick, and no drift either where the shears begin with a kick.

    Example:
        >>> from phasebench.dynamics.integrators import schedule
        >>> pairs(tuple(schedule("leapfrog", 1.0, 1)))
        [Kick(h=None, d=0.0), Kick(h=0.5, d=1.0), Kick(h=0.5, d=0.0)]
    """
    found = [Kick(None, 0.0)]
    for shear in shears:
        if shear.kind == "kick":
            found.append(Kick(shear.h, 0.0))
        else:
            found[-1] = Kick(found[-1].h, found[-1].d + shear.h)
    return found


@dataclass(frozen=True)
class Shape:
    """What determines a plan's launches, and so its recording.

    Attributes:
        rows: n, tokens at a time forward; half as many backward, with the products of q and v in one.
        precision: of products of float32 numbers, as `torch.get_float32_matmul_precision` gives it.
        stream: on which it runs; two streams must not share buffers.
    """

    rows: int
    D: int
    H: int
    dtype: torch.dtype
    device: torch.device
    shears: tuple[Shear, ...]
    g: float
    omega: float
    sigma: Sigma
    precision: str
    stream: int

    @property
    def half(self) -> int:
        """Tokens at a time backward."""
        return self.rows // 2


class Plan:
    """Buffers, a layer's parameters as the kernels take them, and the flow on these buffers.

    Attributes:
        QP: integers (2, n, D), which `forward` takes through the flow and `backward` the first n / 2 of back.
        wv: adjoints (2, n / 2, D), which `backward` takes back.
        sr, largest: (s, r) and largest of `kernels`; check: the checksum so far.
        dW, dab: to which `backward` adds the gradients; those of a and b in parts, one a row.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        n, D, H = shape.rows, shape.D, shape.H
        new = functools.partial(torch.empty, dtype=shape.dtype, device=shape.device)
        self.W, self.X, self.G, self.Y = new(H, D), new(n, D), new(n, D), new(n, H)
        new = functools.partial(torch.empty, dtype=torch.float32, device=shape.device)
        self.ab, self.sr, self.largest = new(2, H), new(2, n), new(())
        self.wv, self.dW, self.dab = (
            new(2, shape.half, D),
            new(H, D),
            new(2, -(-shape.half // GROUP), H),
        )
        self.QP = torch.empty(2, n, D, dtype=torch.int32, device=shape.device)
        self.check = torch.empty((), dtype=torch.int64, device=shape.device)
        self.forward, self.backward = self._advance, self._retreat

    def record(self) -> Plan:
        """From now on replay `forward` and `backward` instead of launching their kernels one by one."""
        self.forward, self.backward = _recorded(self._advance), _recorded(self._retreat)
        return self

    def pretend(self) -> Plan:
        """From now on do nothing: what `forward` and `backward` do takes no memory beside these buffers."""
        self.forward = self.backward = lambda: None
        return self

    def take(self, W: Tensor, a: Tensor, b: Tensor, *, backward: bool) -> None:
        """Take over a layer's parameters; sums, and what is remembered of the states, from zero."""
        if backward:
            self.dab.zero_()
        launch(
            "take",
            blocks(W),
            W,
            a,
            b,
            self.W,
            *self.ab,
            self.dW,
            self.largest,
            self.check,
            W.numel(),
            H=len(W),
            BACKWARD=backward,
            BLOCK=BLOCK,
        )

    @property
    def _field(self) -> tuple[float, float]:
        return self.shape.g, self.shape.omega**2

    def _advance(self) -> None:
        for kick in pairs(self.shape.shears):
            if kick.h is not None:
                S = torch.mm(self.X, self.W.T, out=self.Y)
                launch(
                    "slope",
                    blocks(S),
                    S,
                    *self.ab,
                    S.numel(),
                    H=self.shape.H,
                    KIND=self._sigma,
                    BLOCK=BLOCK,
                )
                torch.mm(S, self.W, out=self.G)
            launch(
                "shear",
                blocks(self.X),
                *self.QP,
                self.G,
                *self.sr,
                self.X,
                self.largest,
                kick.h or 0.0,
                kick.d,
                *self._field,
                self.X.numel(),
                KICK=kick.h is not None,
                D=self.shape.D,
                LIMIT=LIMIT,
                BLOCK=BLOCK,
            )

    def _retreat(self) -> None:
        """Of the first half of Q and P."""
        G, F = self.G.split(self.shape.half)
        for kick in pairs(self.shape.shears[::-1]):
            if kick.h is not None:
                self._transpose(kick.h * self.shape.g)
            launch(
                "unshear",
                blocks(F),
                *self.QP,
                *self.wv,
                F,
                G,
                *self.sr,
                self.X,
                kick.h or 0.0,
                kick.d,
                *self._field,
                F.numel(),
                KICK=kick.h is not None,
                D=self.shape.D,
                BLOCK=BLOCK,
            )

    def _transpose(self, k: float) -> None:
        """From X = (q, v) to Y = (C, S) and G = (C W, S W); adds to dW, da and db."""
        m, H = self.shape.half, self.shape.H
        z, u = torch.mm(self.X, self.W.T, out=self.Y).split(m)
        launch(
            "slopes",
            (self.dab.shape[1], -(-H // COLUMNS)),
            z,
            u,
            *self.ab,
            *self.dab,
            k,
            m,
            H=H,
            KIND=self._sigma,
            GROUP=GROUP,
            R=GROUP_ROWS,
            B=COLUMNS,
            num_warps=1,
        )
        torch.mm(self.Y, self.W, out=self.G)
        if self.dW.dtype == self.X.dtype:
            self.dW.addmm_(self.Y.T, self.X, alpha=-k)
        elif not isinstance(
            self.dW, FakeTensor
        ):  # whose rules know no product that ends in another precision
            torch.addmm(self.dW, self.Y.T, self.X, out_dtype=torch.float32, alpha=-k, out=self.dW)

    @property
    def _sigma(self) -> int:
        return KINDS[self.shape.sigma]


def _recorded(run: Callable[[], None]) -> Callable[[], None]:
    """Kernels launched by run(), as one CUDA graph; runs them once before, which compiles them."""
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
