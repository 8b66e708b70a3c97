"""A training step as one CUDA graph: recorded once, then replayed without its launches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps before the recording, in which libraries compile, choose and allocate


class CudaGraphStep:
    """Calls step(number, inputs, targets), from the fourth call on as a replay of its recording.

    All that the step reads but inputs and targets must be tensors that are changed in place; all
    batches must have one shape. What it returns is overwritten by the next call. Random numbers
    follow the device's generator as it is before each call.

    Args:
        step: what is recorded.
        stream: on which, not the main one, which cannot be recorded; None: a new one. Recordings
            that follow each other share it, as libraries keep a workspace for each.
    """

    def __init__(
        self,
        step: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = stream or torch.cuda.Stream()
        self.batch: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        self.results = self.batch

    def __call__(self, number: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do a step; the first few are not replayed."""
        self.calls += 1
        if self.calls <= WARM_UP:
            main = torch.cuda.current_stream()
            self.stream.wait_stream(main)
            with torch.cuda.stream(self.stream):
                results = self.step(number, inputs, targets)
            main.wait_stream(self.stream)
            return results
        if self.graph is None:
            # nothing is computed while it is recorded: this call replays too
            self.batch, graph = (inputs.clone(), targets.clone()), torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.results = self.step(number, *self.batch)
            self.graph = graph
        for recorded, given in zip(self.batch, (inputs, targets), strict=True):
            recorded.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.results
