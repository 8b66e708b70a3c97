"""Muon for matrices and AdamW for the rest, in one optimizer that a CUDA graph can record.

Muon steps along the polar factor of the momentum (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon), approximated by five Newton-Schulz iterations in
bfloat16. The step has the root mean square of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that
both share one learning rate. Beside torch's own Muon this one takes complex matrices, and a
learning rate on the GPU, which a recorded step reads.

Legend: G gradient, M momentum, O its polar factor; a complex matrix A + i B is held as (A, B).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

MOMENTUM = 0.95
RMS = 0.2  # of an entry of the step, in units of the learning rate
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from Jordan et al.
ITERATIONS = 5


def is_matrix(parameter: Tensor) -> bool:
    """Say whether a parameter is a real matrix (o, i) or a complex one (2, o, i)."""
    return parameter.ndim == 2 or (parameter.ndim == 3 and len(parameter) == 2)


def polar(G: Tensor) -> Tensor:
    """Approximate the polar factor of matrices (n, o, i): singular values near one."""
    a, b, c = COEFFICIENTS
    wide = G.shape[-2] <= G.shape[-1]
    X = (G if wide else G.mT).bfloat16()
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        S = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(S, S, S, beta=b, alpha=c), X, beta=a)
    return X if wide else X.mT


def direction(G: Tensor) -> Tensor:
    """Compute the step of a batch of matrices of one shape: (n, o, i), or complex (n, 2, o, i).

    A matrix three times as long as wide holds queries, keys and values: three square ones.
    """
    for axis in (-2, -1):
        if G.shape[axis] == 3 * G.shape[-3 - axis]:
            steps = direction(torch.cat(G.chunk(3, axis)))
            return torch.cat(steps.chunk(3), axis)
    if G.ndim == 3:
        return polar(G).to(G.dtype) * (RMS * max(G.shape[-2:]) ** 0.5)
    A, B = G.unbind(1)
    o, i = A.shape[-2:]
    # the polar factor of the real block matrix is that of the complex one
    step = polar(torch.cat((torch.cat((A, -B), -1), torch.cat((B, A), -1)), -2)).to(G.dtype)
    return torch.stack((step[:, :o, :i], step[:, o:, :i]), 1) * (RMS * (2 * max(o, i)) ** 0.5)


class MuonAdamW(AdamW):
    """AdamW whose groups with ``muon=True`` are stepped by Muon; their parameters are matrices."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        """Update every parameter that has a gradient."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._step_matrices(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Step all matrices of one shape together: few launches, and products that fill a GPU."""
        same: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                same[parameter.shape].append((parameter, parameter.grad))
        lr, decay = group["lr"], group["weight_decay"]
        for matrices in same.values():
            looked = []
            for w, G in matrices:
                state = self.state[w]
                state.setdefault("step", torch.zeros((), device=w.device))  # AdamW asks for it
                M = state.setdefault("momentum", torch.zeros_like(w))
                M.lerp_(G, 1 - MOMENTUM)
                looked.append(G.lerp(M, MOMENTUM))  # Nesterov's
            for (w, _), step in zip(matrices, direction(torch.stack(looked)), strict=True):
                w.mul_(1 - lr * decay).sub_(lr * step)
