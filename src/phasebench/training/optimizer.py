"""AdamW, its learning rate over time, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

from phasebench.config import Decay, TrainConfig

PREFIX = "optimizer/"


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


def adamw(
    named: Iterable[tuple[str, Parameter]],
    recipe: TrainConfig,
    decay: Callable[[str, Parameter], Decay | None],
    *,
    recorded: bool = False,
) -> AdamW:
    """AdamW in torch's fused kernels; if recorded, as a CUDA graph, its learning rate is a tensor on the GPU.

    decay(name, parameter) is the recipe's key with the parameter's weight decay; None: it has none.
    """
    groups: dict[float, list[tuple[str, Parameter]]] = {}
    for name, parameter in named:
        key = decay(name, parameter)
        weight_decay = 0.0 if key is None else getattr(recipe, key)
        groups.setdefault(weight_decay, []).append((name, parameter))
    return AdamW(
        [
            {"params": parameters, "weight_decay": weight_decay}
            for weight_decay, parameters in groups.items()
        ],
        lr=torch.tensor(recipe.lr, device="cuda") if recorded else recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        fused=True,
        capturable=recorded,
    )


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """A rate that is a tensor, which a recording may read, stays that tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def state_tensors(optimizer: AdamW) -> dict[str, Tensor]:
    """The moments and step counts, as ``optimizer/<parameter>/<moment>``."""
    state = optimizer.state_dict()
    return {
        f"{PREFIX}{name}/{key}": tensor
        for index, name in enumerate(_names(optimizer))
        for key, tensor in state["state"].get(index, {}).items()
    }


def restore_state(optimizer: AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` gave, from among tensors."""
    index = {name: i for i, name in enumerate(_names(optimizer))}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            parameter, key = name.removeprefix(PREFIX).rsplit("/", 1)
            state.setdefault(index[parameter], {})[key] = tensor.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _names(optimizer: AdamW) -> list[str]:
    """Parameter names in the order in which torch numbers their states."""
    return [name for group in optimizer.param_groups for name in group["param_names"]]
