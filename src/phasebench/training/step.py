"""One optimizer step: learning rate, accumulated gradients under autocast, clipping, AdamW, a watch for divergence.

A step depends on the weights, the optimizer's state, its number, its batch and the seed alone: the generator that
dropout draws from is seeded anew for each part of each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

from phasebench.config import Decay, TrainConfig
from phasebench.data.batches import IGNORED
from phasebench.dynamics import settle
from phasebench.training.checkpoint import Stateful
from phasebench.training.cuda_graph import Recorded
from phasebench.training.optimizer import (
    adamw,
    learning_rate,
    restore_state,
    set_learning_rate,
    state_tensors,
)
from phasebench.training.scoring import Batch, Scorable, autocast

MAX_SKIPPED = 50  # steps in a row without an update, after which a training counts as diverged


@runtime_checkable
class Trainable(Scorable, Stateful, Protocol):
    """What training needs of a model, which is a `torch.nn.Module`."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]: ...

    def compile_training(self) -> None:
        """From now on run what torch.compile makes faster by it while training."""
        ...

    def decay(self, name: str, parameter: Parameter, /) -> Decay | None:
        """Which of the recipe's weight decays applies to a parameter."""
        ...


class Updater:
    """Updates a model, which is on `device`, with one batch after the other.

    With recipe.graph, on a GPU, a step is recorded as a CUDA graph and replayed: small steps are otherwise bound by the
    host, which launches some thousand kernels in each.  The generator is then seeded once a step, not for each part.
    """

    def __init__(
        self, model: Trainable, recipe: TrainConfig, seed: int, device: torch.device
    ) -> None:
        self.model, self.recipe, self.seed, self.device = model, recipe, seed, device
        if recipe.compile and device.type == "cuda":
            model.compile_training()
        self.parameters = [parameter for _, parameter in model.named_parameters()]
        self.recorded = recipe.graph and device.type == "cuda"
        self.optimizer = adamw(
            model.named_parameters(), recipe, model.decay, recorded=self.recorded
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)
        self.skipped = torch.zeros(
            (), dtype=torch.int64, device=device
        )  # steps in a row, by the fp16 scaler
        self.number = torch.zeros((), dtype=torch.int64, device=device)  # of the step, from 1
        self.run = Recorded(self._step) if self.recorded else self._step

    def __call__(self, step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Do step `step`, from 0. Returns, on the device, the loss in nats a token and the norm of the gradient
        before clipping; waits for neither."""
        set_learning_rate(self.optimizer, learning_rate(step, self.recipe))
        self.number.fill_(step + 1)
        torch.manual_seed(step_seed(self.seed, step, 0))
        return self.run(step, *(self._to_device(tensor) for tensor in batch))

    def _step(self, step: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        loss = self._backward(step, inputs, targets)
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._watch(loss, norm)
        return loss, norm

    def first_bad_step(self) -> int:
        """Number, from 1, of the first step whose loss or gradient was not finite; 0 if none. Waits for the device.

        Raises what `dynamics.settle` does, where the flow of a step before has turned out worthless.
        """
        step = int(self.bad_step)
        settle()
        return step

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the next steps depend on beside the weights: the optimizer's tensors, the scaler's numbers."""
        return state_tensors(self.optimizer), self.scaler.state_dict()

    def restore(self, tensors: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Put back what `state` gave; tensors of other names are left alone."""
        restore_state(self.optimizer, tensors)
        self.scaler.load_state_dict(scaler)

    def _backward(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the gradients of the parts: each is divided by the tokens of the batch, so they give the batch's own."""
        parts, scored = self.recipe.accumulate, (targets != IGNORED).sum()
        loss = torch.zeros((), device=self.device)
        for part, (x, y) in enumerate(zip(inputs.chunk(parts), targets.chunk(parts), strict=True)):
            if part and not self.recorded:
                torch.manual_seed(step_seed(self.seed, step, part))
            with autocast(self.device, self.recipe.precision):
                nats, _ = self.model.loss(x, y, self.recipe.loss_chunk)
            share = nats / scored
            self.scaler.scale(share).backward()
            loss = loss + share.detach()
        return loss

    def _watch(self, loss: Tensor, norm: Tensor) -> None:
        moved = torch.isfinite(norm)
        self.skipped.copy_(torch.where(moved, 0, self.skipped + 1))
        # an infinite gradient is the fp16 scaler's business: it skips the step and lowers its scale, but not for ever
        finite = torch.isfinite(loss) & (
            self.skipped < MAX_SKIPPED if self.scaler.is_enabled() else moved
        )
        self.bad_step.copy_(torch.where(finite | (self.bad_step > 0), self.bad_step, self.number))

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()  # or the copy would wait for the steps that are under way
        return tensor.to(self.device, non_blocking=True)


def step_seed(seed: int, step: int, part: int) -> int:
    """Of the random generator in one part of one step: 63 bits, unrelated between neighbours."""
    digest = hashlib.blake2b(f"{seed}/{step}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
