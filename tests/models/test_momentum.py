"""The transformer with momentum, against its equations and against the plain transformer."""

from __future__ import annotations

import torch
from torch import nn

from phasebench.models.momentum import Kick


def test_a_kick_is_nesterov_s_step() -> None:
    kick = Kick(8, nn.Linear(8, 8), nn.Identity()).double()
    with torch.no_grad():
        kick.beta.fill_(0.3), kick.mu.fill_(-0.7), kick.gamma.fill_(1.7)
    x, v = torch.randn(2, 3, 8).double(), torch.randn(2, 3, 8).double()
    beta, mu = (1 / (1 + torch.exp(-torch.tensor(k).double())) for k in (0.3, -0.7))
    ahead = x + mu * v
    ahead = ahead / (ahead.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
    wanted_v = beta * v + 1.7 * kick.sublayer(ahead)
    found_x, found_v = kick(x, v)
    torch.testing.assert_close(found_v, wanted_v)
    torch.testing.assert_close(found_x, x + wanted_v)


def test_without_momentum_it_is_the_pre_norm_residual() -> None:
    kick = Kick(8, nn.Linear(8, 8), nn.Identity())
    with torch.no_grad():
        kick.beta.fill_(-1e4), kick.mu.fill_(-1e4)
    x, v = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    torch.testing.assert_close(kick(x, v)[0], x + kick.sublayer(kick.norm(x)))
