"""AdamW, its learning rate over time, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

from phasebench.config import TrainConfig
from phasebench.models import LanguageModel
from phasebench.training.muon import MuonAdamW, is_matrix


def learning_rate(step: int, recipe: TrainConfig) -> float:
    """Compute the rate of the step with this number, from 0: linear warm-up to lr, then down.

    cosine: half a cosine down to final_lr * lr. wsd: constant, then linear in the last `decay` of
    the steps (Hu et al. 2024, arXiv 2404.06395; Haegele et al. 2024, arXiv 2405.18392).

    >>> recipe = TrainConfig(steps=11, warmup=2, lr=1.0, final_lr=0.1)
    >>> [round(learning_rate(step, recipe), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    start = decay_start(recipe)
    phase = max(0.0, (step - start) / max(1, recipe.steps - 1 - start))
    falling = 1 - phase if recipe.schedule == "wsd" else (1 + math.cos(math.pi * phase)) / 2
    return recipe.lr * (recipe.final_lr + (1 - recipe.final_lr) * falling)


def decay_start(recipe: TrainConfig) -> int:
    """Return the step, from 0, at which the rate begins to fall.

    >>> decay_start(TrainConfig(steps=100, warmup=10, schedule="wsd", decay=0.2))
    80
    """
    if recipe.schedule == "wsd":
        return max(recipe.warmup, recipe.steps - round(recipe.decay * recipe.steps))
    return recipe.warmup


def make_optimizer(model: LanguageModel, recipe: TrainConfig, *, recorded: bool = False) -> AdamW:
    """Make AdamW in torch's fused kernels, with the model's weight decay of each parameter.

    With recipe.optimizer=muon all matrices but the tables are stepped by Muon instead.
    recorded: as a CUDA graph, for which its learning rate is a tensor on the GPU.
    """
    groups: dict[tuple[float, bool], list[tuple[str, Parameter]]] = {}
    for name, parameter in model.named_parameters():
        key = model.decay(name, parameter)
        table = key == "embedding_decay"
        muon = recipe.optimizer == "muon" and is_matrix(parameter) and not table
        groups.setdefault((getattr(recipe, key) if key else 0.0, muon), []).append(
            (name, parameter)
        )
    return MuonAdamW(
        [
            {"params": named, "weight_decay": decay, "muon": muon}
            for (decay, muon), named in groups.items()
        ],
        lr=torch.tensor(recipe.lr, device="cuda") if recorded else recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        fused=True,
        capturable=recorded,
    )


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Set the rate; one that is a tensor, which a recording may read, stays that tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def state_tensors(optimizer: AdamW) -> dict[str, Tensor]:
    """Return the moments and step counts, as ``<parameter>/<moment>``."""
    return {
        f"{name}/{moment}": tensor
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for moment, tensor in optimizer.state[parameter].items()
    }


def restore_state(optimizer: AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            optimizer.state[parameter] = {
                key.removeprefix(f"{name}/"): tensor.to(parameter.device)
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }
