"""Memory of one training step, forward, backward and update: what each phase needs and holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pynvml
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from phasebench.bench.vram.predict import StorageTracker


class CudaMeter:
    """Bytes that torch's caching allocator has handed out, counted as `StorageTracker` does."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def allocated(self) -> int:
        """Bytes live now."""
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """The most bytes live at one time since the last reset."""
        return torch.cuda.max_memory_allocated(self.device)

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        torch.cuda.reset_peak_memory_stats(self.device)


def process_bytes(device: torch.device) -> tuple[int | None, str | None]:
    """Return this process' device memory as NVML counts it, or None and the reason.

    It is the CUDA context, libraries and all that torch has reserved. torch gives no memory back on
    its own, so that the value at the end of a program is also its peak. NVML may be missing,
    refuse, or not know this process (in a container it may not).
    """
    try:
        pynvml.nvmlInit()
        try:
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    if not used:
        return None, "NVML does not list this process (another namespace, as in a container?)"
    if used[0] is None:
        return None, "NVML lists this process without its memory"
    return int(used[0]), None


@dataclass(frozen=True)
class StepBytes:
    """Memory of one forward + backward pass, and of the update after it if there is one, in bytes.

    Parameters, gradients and the optimizer's state are sizes of tensors; the others are sizes of
    the blocks that hold them.

    Attributes:
        before: live when the pass begins: parameters, the optimizer's state, tokens, and workspaces
            of libraries, but no gradients.
        parameters: of these, the parameters.
        optimizer: of these, the optimizer's state.
        gradients: the parameters' gradients, after the backward pass.
        held: live between forward and backward, beyond `before`: what the forward pass keeps for
            the backward pass.
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
        """What the peak adds to `before` and `held`: gradients, and what one phase needs."""
        return self.peak - self.before - self.held


def measure_step(
    model: nn.Module,
    loss: Callable[[], Tensor],
    meter: CudaMeter | StorageTracker,
    optimizer: Optimizer | None = None,
) -> StepBytes:
    """Run loss(), its backward pass and the optimizer's step, if any, and return their memory.

    The optimizer has made its state in an earlier step. Gradients of an earlier pass are dropped
    first; those of this one are left on the model.
    """
    model.zero_grad(set_to_none=True)
    meter.reset_peak()
    before = meter.allocated()
    value = loss()
    held, peak_forward = meter.allocated() - before, meter.peak()
    meter.reset_peak()
    value.backward()
    peak_backward, peak_update = meter.peak(), 0
    del value
    state: list[Tensor] = []
    if optimizer:
        meter.reset_peak()
        optimizer.step()
        peak_update = meter.peak()
        values = (value for entry in optimizer.state.values() for value in entry.values())
        state = [value for value in values if isinstance(value, Tensor)]
    parameters = list(model.parameters())
    return StepBytes(
        before=before,
        parameters=sum(p.nbytes for p in parameters),
        optimizer=sum(t.nbytes for t in state),
        gradients=sum(p.grad.nbytes for p in parameters if p.grad is not None),
        held=held,
        peak_forward=peak_forward,
        peak_backward=peak_backward,
        peak_update=peak_update,
    )
