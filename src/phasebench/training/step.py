"""One optimizer step: rate, accumulated gradients under autocast, clipping, AdamW, a watch.

A step depends on the weights, the optimizer's state, its number, its batch and the seed alone: the
generator that dropout draws from is seeded anew for each part of each step.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from phasebench.config import TrainConfig
from phasebench.models import LanguageModel
from phasebench.models.objective import Objective
from phasebench.training import ranks
from phasebench.training.cuda_graph import CudaGraphStep
from phasebench.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from phasebench.training.scoring import Batch, autocast

MAX_SKIPPED = 50  # steps in a row without an update, after which a training counts as diverged


class TrainStep:
    """Updates a model, which is on `device`, with one batch after the other.

    With recipe.graph, on one GPU, a step is recorded as a CUDA graph and replayed: small steps are
    otherwise bound by the host, which launches some thousand kernels in each. The generator is then
    seeded once a step, not for each part.
    """

    def __init__(
        self, model: LanguageModel, recipe: TrainConfig, seed: int, device: torch.device
    ) -> None:
        self.model, self.recipe, self.seed, self.device = model, recipe, seed, device
        each = recipe.accumulate // ranks.size()  # parts of a batch a rank
        self.own_parts = range(each * ranks.rank(), each * (ranks.rank() + 1))
        on_gpu = device.type == "cuda"
        if recipe.compile and on_gpu:
            model.compile_training()
        # a recorded sum over ranks did not come to its end on two H200 (torch 2.11)
        self.recorded = recipe.graph and on_gpu and ranks.size() == 1
        self.optimizer = make_optimizer(model, recipe, recorded=self.recorded)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.number = torch.zeros((), dtype=torch.int64, device=device)  # of the step, from 1
        self.bad_step = torch.zeros_like(self.number)
        self.skipped = torch.zeros_like(self.number)  # steps in a row, by the fp16 scaler
        self.objective = objective_at(0, recipe)
        self.run = CudaGraphStep(self._step) if self.recorded else self._step

    def __call__(self, step: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Do step `step`, from 0.

        Returns, on the device, the loss in nats a token and the norm of the gradient before
        clipping; waits for neither.
        """
        set_learning_rate(self.optimizer, learning_rate(step, self.recipe))
        self.number.fill_(step + 1)
        torch.manual_seed(step_seed(self.seed, step, self.own_parts.start))
        # in pinned memory, or the copy would wait for the steps that are under way
        pin = self.device.type == "cuda"
        host = [x.pin_memory() if pin and x.device.type == "cpu" else x for x in batch]
        inputs, targets = (x.to(self.device, non_blocking=True) for x in host)
        objective = objective_at(step, self.recipe)
        if isinstance(self.run, CudaGraphStep) and objective != self.objective:  # other shapes
            torch.cuda.synchronize(self.device)  # the old recording may be under way
            self.run = CudaGraphStep(self._step, self.run.stream)
        self.objective = objective
        return self.run(step, inputs, targets)

    def _step(self, step: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        loss = self._backward(step, inputs, targets)
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(list(self.model.parameters()), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        moved = torch.isfinite(norm)
        self.skipped.copy_(torch.where(moved, 0, self.skipped + 1))
        # an infinite gradient is the fp16 scaler's business: it skips the step and lowers its
        # scale, but not for ever
        fine = self.skipped < MAX_SKIPPED if self.scaler.is_enabled() else moved
        fine = (fine & torch.isfinite(loss)) | (self.bad_step > 0)
        self.bad_step.copy_(torch.where(fine, self.bad_step, self.number))
        return loss, norm

    def first_bad_step(self) -> int:
        """Return the first step, from 1, whose loss or gradient was not finite; 0 if none.

        Waits for the device. Raises `LatticeOverflow` or `LatticeCorrupted` where a flow of these
        steps has come to it.
        """
        step = int(self.bad_step)
        self.model.check_lattices()
        return step

    def _backward(self, step: int, inputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the gradients of the parts, each divided by the scored tokens of the batch: the
        batch's.

        Other ranks' parts are in the sum.
        """
        parts = self.recipe.accumulate
        loss = torch.zeros((), device=self.device)
        chunks = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
        scored = torch.stack([self.objective.scored(y) for _, y in chunks]).sum()
        for part in self.own_parts:
            x, y = chunks[part]
            if part > self.own_parts.start and not self.recorded:
                torch.manual_seed(step_seed(self.seed, step, part))
            with autocast(self.device, self.recipe.precision):
                nats, _ = self.model.loss(x, y, self.recipe.loss_chunk, self.objective)
            share = nats / scored
            self.scaler.scale(share).backward()
            loss = loss + share.detach()
        gradients = (p.grad for p in self.model.parameters() if p.grad is not None)
        ranks.sum_over((loss, *gradients))
        return loss


def objective_at(step: int, recipe: TrainConfig) -> Objective:
    """Return what step `step`, from 0, minimises: no selection in its warm-up and its release.

    >>> from phasebench.config import EntropicConfig
    >>> recipe = TrainConfig(steps=10, entropic=EntropicConfig(score="excess"))
    >>> [objective_at(step, recipe).keep for step in (0, 1, 6, 7)]
    [1.0, 0.6, 0.6, 1.0]
    """
    own, margin, smoothing = recipe.entropic, recipe.dialectic.margin, recipe.label_smoothing
    first, last = round(own.warmup * recipe.steps), round((1 - own.release) * recipe.steps)
    if own.score == "off" or not first <= step < last:
        return Objective(margin, smoothing=smoothing)
    return Objective(margin, own.score, own.keep, own.noise, smoothing)


def step_seed(seed: int, step: int, part: int) -> int:
    """Derive the random seed of one part of one step: 63 bits, unrelated between neighbours."""
    digest = hashlib.blake2b(f"{seed}/{step}/{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
