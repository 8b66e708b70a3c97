"""A training step as one CUDA graph: recorded once, then replayed without its launches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]

WARM_UP = 3  # steps before the recording, in which libraries compile, choose and allocate


class Recorded:
    """step(number, inputs, targets), from the fourth call on replayed, with the later calls' inputs and targets.

    All that the step reads but these must be tensors that are changed in place; all batches must have one shape.  What
    it returns is overwritten by the next call.  Random numbers follow the device's generator as it is before each call.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs = self.targets = self.loss = self.norm = torch.empty(0)

    def __call__(self, number: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do a step; the first few are not replayed."""
        if self.graph is None and self.calls < WARM_UP:
            self.calls += 1
            return self._aside(number, inputs, targets)
        if self.graph is None:
            self._record(number, inputs, targets)
        self.inputs.copy_(inputs, non_blocking=True)
        self.targets.copy_(targets, non_blocking=True)
        assert self.graph is not None
        self.graph.replay()
        return self.loss, self.norm

    def _aside(self, number: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """On a stream of its own, as recording asks for."""
        stream, main = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            found = self.step(number, inputs, targets)
        main.wait_stream(stream)
        return found

    def _record(self, number: int, inputs: Tensor, targets: Tensor) -> None:
        """Nothing is computed: the call that asked for it replays."""
        self.inputs, self.targets = inputs.clone(), targets.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.loss, self.norm = self.step(number, self.inputs, self.targets)
        self.graph = graph
