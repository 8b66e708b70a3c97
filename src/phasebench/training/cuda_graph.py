"""A training step as one CUDA graph: recorded once, then replayed without its launches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Step = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]

WARM_UP = 3  # steps before the recording, in which libraries compile, choose and allocate


@dataclass(frozen=True)
class Recording:
    """A step's graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    targets: Tensor
    loss: Tensor
    norm: Tensor

    def replay(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do the step with another batch of the same shape."""
        self.inputs.copy_(inputs, non_blocking=True)
        self.targets.copy_(targets, non_blocking=True)
        self.graph.replay()
        return self.loss, self.norm


class Recorded:
    """step(number, inputs, targets), from the fourth call on replayed, with the later calls' inputs and targets.

    All that the step reads but these must be tensors that are changed in place; all batches must have one shape.  What
    it returns is overwritten by the next call.  Random numbers follow the device's generator as it is before each call.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0
        self.recording: Recording | None = None

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        """Of the warm-up and of the recording, which may not be the main one; libraries keep workspaces for each."""
        return torch.cuda.Stream()

    def __call__(self, number: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Do a step; the first few are not replayed."""
        if self.calls < WARM_UP:
            self.calls += 1
            return self._aside(number, inputs, targets)
        if self.recording is None:
            self.recording = self._record(number, inputs, targets)
        return self.recording.replay(inputs, targets)

    def _aside(self, number: int, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            found = self.step(number, inputs, targets)
        main.wait_stream(self.stream)
        return found

    def _record(self, number: int, inputs: Tensor, targets: Tensor) -> Recording:
        """Nothing is computed: the call that asked for it replays."""
        inputs, targets, graph = inputs.clone(), targets.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            loss, norm = self.step(number, inputs, targets)
        return Recording(graph, inputs, targets, loss, norm)
