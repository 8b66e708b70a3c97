"""One training step, forward, backward and update, seen by a meter of memory: what each phase needs and holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


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
    """Memory of one forward + backward pass, and of the update after it if there is one, in bytes.

    Attributes:
        before: live when the pass begins: parameters, the optimizer's state, tokens, and workspaces of libraries, but
            no gradients.
        parameters: of these, the parameters.
        optimizer: of these, the optimizer's state.
        gradients: the parameters' gradients, all live at the end of the backward pass.
        held: live between forward and backward, beyond `before`: what the forward pass keeps for the backward pass.
        peak_forward: most live in the forward pass, `before` included.
        peak_backward: most live in the backward pass, `before` included.
        peak_update: most live in the update, `before` included; 0 where there is none.
    """

    before: int
    parameters: int
    optimizer: int
    gradients: int
    held: int
    peak_forward: int
    peak_backward: int
    peak_update: int

    @property
    def peak(self) -> int:
        """Most live in the whole pass."""
        return max(self.peak_forward, self.peak_backward, self.peak_update)

    @property
    def transient(self) -> int:
        """What the peak adds to `before` and `held`: gradients so far and what lives within one phase only."""
        return self.peak - self.before - self.held


def measure_step(
    model: nn.Module, loss: Callable[[], Tensor], meter: Meter, optimizer: Optimizer | None = None
) -> StepBytes:
    """Run loss(), its backward pass and the optimizer's step, if there is one, and return what `meter` saw.

    The optimizer has made its state in an earlier step.  Gradients of an earlier pass are dropped first; those of this
    one are left on the model.
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
    gradients = meter.allocated() - before
    return StepBytes(
        before=before,
        parameters=sum(p.nbytes for p in model.parameters()),
        optimizer=_state_bytes(optimizer) if optimizer else 0,
        gradients=gradients,
        held=held,
        peak_forward=peak_forward,
        peak_backward=peak_backward,
        peak_update=_update(optimizer, meter) if optimizer else 0,
    )


def _update(optimizer: Optimizer, meter: Meter) -> int:
    meter.reset_peak()
    optimizer.step()
    return meter.peak()


def _state_bytes(optimizer: Optimizer) -> int:
    return sum(
        t.nbytes
        for state in optimizer.state.values()
        for t in state.values()
        if isinstance(t, Tensor)
    )
