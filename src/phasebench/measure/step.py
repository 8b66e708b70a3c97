"""One training step, forward and backward, seen by a meter of memory: what each phase needs, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


class Meter(Protocol):
    """Counts the bytes of live tensors."""

    def allocated(self) -> int:
        """Bytes live now."""
        ...

    def peak(self) -> int:
        """The most bytes live at one time since the last reset."""
        ...

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        ...


@dataclass(frozen=True)
class StepBytes:
    """Memory of one forward + backward pass, in bytes.

    Attributes:
        before: live when the pass begins: parameters, tokens, and workspaces of libraries, but no gradients.
        parameters: of these, the parameters.
        gradients: the parameters' gradients, all live at the end of the pass.
        held: live between forward and backward, beyond `before`: what the forward pass keeps for the backward pass.
        peak_forward: most live in the forward pass, `before` included.
        peak_backward: most live in the backward pass, `before` included.
    """

    before: int
    parameters: int
    gradients: int
    held: int
    peak_forward: int
    peak_backward: int

    @property
    def peak(self) -> int:
        """Most live in the whole pass."""
        return max(self.peak_forward, self.peak_backward)

    @property
    def transient(self) -> int:
        """What the peak adds to `before` and `held`: gradients so far and what lives within one phase only."""
        return self.peak - self.before - self.held


def measure_step(model: nn.Module, loss: Callable[[], Tensor], meter: Meter) -> StepBytes:
    """Run loss() and its backward pass, gradients for every parameter, and return what `meter` saw.

    Gradients of an earlier pass are dropped first; those of this one are left on the model.
    """
    model.zero_grad(set_to_none=True)
    meter.reset_peak()
    before = meter.allocated()
    value = loss()
    held, peak_forward = meter.allocated() - before, meter.peak()
    meter.reset_peak()
    value.backward()
    peak_backward = meter.peak()
    del value
    return StepBytes(
        before=before,
        parameters=sum(p.nbytes for p in model.parameters()),
        gradients=meter.allocated() - before,
        held=held,
        peak_forward=peak_forward,
        peak_backward=peak_backward,
    )
