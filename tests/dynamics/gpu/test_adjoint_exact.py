"""The fused exact adjoint against the eager one; on a CPU by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from phasebench.dynamics import (
    INTEGRATORS,
    POTENTIALS,
    HamiltonianFlow,
    LatticeCorrupted,
    LatticeOverflow,
    as_on_gpu,
    release,
)
from phasebench.dynamics.adjoint_exact import adjoint_exact as eager
from phasebench.dynamics.adjoint_exact import lattice_of
from phasebench.dynamics.gpu import adjoint_exact as fused
from phasebench.dynamics.gpu import launch as gpu
from problems import perceptron_flow

D, H = 16, 32
# numpy, in which the interpreter computes, warns where the lattice's own check is being tested
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|All-NaN).*:RuntimeWarning")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the kernels run; few tokens at a time, so that there are several chunks."""
    if request.param == "cpu":
        if torch.cuda.is_available():
            pytest.skip("the kernels run on the GPU of this machine")
        pytest.importorskip("triton", reason="Triton is not installed")
        import interpreter  # needs Triton

        interpreter.patch_once(monkeypatch)
        monkeypatch.setattr(gpu, "INTERPRETED", True)
    monkeypatch.setattr(fused, "ROWS", 64 if request.param == "cuda" else 8)
    release()
    yield request.param
    release()


def flow(device: str, **options: Any) -> HamiltonianFlow:
    torch.manual_seed(0)
    plain = {"steps": 2, "dt": 0.1, "integrator": "leapfrog"}
    ode = perceptron_flow(D, H, **(plain | options)).to(device)
    ode.log_c[0].data.copy_(torch.linspace(-0.5, 0.5, D))
    return ode


def states(device: str, *batch: int, scale: float = 1.0) -> Tensor:
    """Leaves (2, *batch, D); drawn on the CPU, so that they are the same everywhere."""
    torch.manual_seed(1)
    return (scale * torch.randn(2, *batch, D)).to(device).requires_grad_()


def results(ode: HamiltonianFlow, z: Tensor, method: str) -> list[Tensor]:
    """The end of the flow, and the gradients of a fixed function of it."""
    ode.gradient = method
    end = torch.stack(ode(*z))
    torch.manual_seed(2)
    loss = (end * torch.randn(end.shape).to(end.device)).sum()
    return [end.detach(), *torch.autograd.grad(loss, (z, *ode.parameters()))]


def close(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for x, y in zip(found, wanted, strict=True):
        assert (x.double() - y.double()).norm() <= tolerance * y.double().norm()


@pytest.mark.parametrize(
    ("potential", "integrator", "eps"),
    [
        *((name, "leapfrog", 0.25) for name in POTENTIALS),
        ("logcosh", "leapfrog_dkd", 0.25),
        ("gelu", "omelyan4", 0.01),
        ("gelu", "omelyan4", None),
    ],
)
def test_states_and_gradients_are_those_of_the_eager_path(
    device: str, potential: str, integrator: str, eps: float | None
) -> None:
    steps = 2 if integrator.startswith("leapfrog") else 1
    ode = flow(
        device, potential=potential, integrator=integrator, eps=eps, steps=steps, coupling=1.0
    )
    z = states(device, 2, 3)
    close(results(ode, z, "adjoint_exact"), results(ode, z, "adjoint_exact_eager"), 1.5e-6)
    ode.check()


@pytest.mark.parametrize("size", [48, 80])
def test_rows_that_are_no_power_of_two(device: str, size: int) -> None:
    ode = perceptron_flow(size, 32, steps=2, dt=0.5, integrator="leapfrog").to(device)
    z = torch.randn(2, 3, size).to(device).requires_grad_()
    close(results(ode, z, "adjoint_exact"), results(ode, z, "adjoint_exact_eager"), 1.5e-6)


@pytest.mark.parametrize(("tokens", "stiffness"), [(1, 1.0), (4, 4.0), (9, 2.0)])
def test_what_is_reversed_is_the_start(device: str, tokens: int, stiffness: float) -> None:
    steps = 20 if device == "cuda" else 3
    ode, z = flow(device), states(device, tokens).detach()
    ode.potential.W.data.mul_(stiffness)
    ode.steps = steps
    start, back = fused.round_trip(*z, ode.problem())
    assert start.shape == (2, tokens, D)
    assert torch.equal(start, back)
    lattice = lattice_of(*z, ode.problem())
    assert torch.equal(start, torch.stack(lattice.encode(*z)))


def test_a_token_s_flow_does_not_depend_on_another_s(device: str) -> None:
    ode, z = flow(device, gradient="adjoint_exact"), states(device, 6).detach()
    before = torch.stack(ode(*z))
    z[:, -1] *= 1000
    assert torch.equal(torch.stack(ode(*z))[:, :-1], before[:, :-1])


@pytest.mark.gpu
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_on_a_gpu_every_integrator_is_reversed(integrator: str) -> None:
    ode = perceptron_flow(64, 256, steps=10, dt=0.1, integrator=integrator).cuda()
    z = torch.randn(2, 9000, 64, device="cuda")
    start, back = fused.round_trip(*z, ode.problem(torch.bfloat16))
    assert torch.equal(start, back)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_reversal_is_exact_in_any_precision(steps: int, dtype: torch.dtype | None) -> None:
    for tokens in (5000, 4096, 100):
        ode = perceptron_flow(64, 256, steps=steps, dt=0.1, coupling=1.0).cuda()
        torch.nn.init.normal_(ode.log_c[0], std=0.3)
        z = torch.randn(2, tokens, 64, device="cuda")
        start, back = fused.round_trip(*z, ode.problem(dtype))
        assert torch.equal(start, back)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_forces_are_as_good_as_the_eager_path_s(dtype: torch.dtype) -> None:
    ode, z = flow("cuda", coupling=0.2), states("cuda", 4, 50)
    exact = results(ode, z, "backprop")
    with torch.autocast("cuda", dtype):
        found, wanted = results(ode, z, "adjoint_exact"), results(ode, z, "adjoint_exact_eager")
    for x, y, truth in zip(found, wanted, exact, strict=True):
        assert (x - truth).norm() < 2 * (y - truth).norm() + 1e-6 * truth.norm()


def test_layers_of_the_same_sizes_do_not_disturb_each_other(device: str) -> None:
    z, odes = states(device, 6), [flow(device, steps=1) for _ in range(2)]
    for i, ode in enumerate(odes):
        ode.potential.W.data.mul_(i + 1)
    ends = []
    for method in ("adjoint_exact", "adjoint_exact_eager"):
        q, p = z
        for ode in odes:
            ode.gradient = method
            q, p = ode(q, p)
        weights = [x for ode in odes for x in ode.parameters()]
        ends.append([q.detach(), *torch.autograd.grad((q * p).sum(), (z, *weights))])
    close(*ends, 1e-5)


def test_a_graph_that_is_retained_gives_the_same_gradients_again(device: str) -> None:
    ode, z = flow(device, gradient="adjoint_exact"), states(device, 6)
    loss = ode(*z)[0].square().sum()
    first = torch.autograd.grad(loss, (z, ode.potential.W), retain_graph=True)
    assert all(
        torch.equal(x, y)
        for x, y in zip(first, torch.autograd.grad(loss, (z, ode.potential.W)), strict=True)
    )


def test_views_and_inputs_without_gradient(device: str) -> None:
    ode, z = flow(device, gradient="adjoint_exact"), states(device, 3, 2).detach()
    q, p = torch.cat(tuple(z), -1).chunk(2, -1)
    (dW,) = torch.autograd.grad(ode(q, p)[0].sum(), ode.potential.W)
    (same,) = torch.autograd.grad(ode(*z)[0].sum(), ode.potential.W)
    assert torch.equal(dW, same)


@pytest.mark.parametrize("batch", [(), (0, 3), (3, 1, 3)])
def test_any_shape_of_batch(device: str, batch: tuple[int, ...]) -> None:
    ode, z = flow(device), states(device, *batch)
    close(results(ode, z, "adjoint_exact"), results(ode, z, "adjoint_exact_eager"), 1e-6)


def test_double_backward_is_refused(device: str) -> None:
    ode, z = flow(device, gradient="adjoint_exact"), states(device, 2)
    (dz,) = torch.autograd.grad(ode(*z)[0].square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dz.sum().backward()


def runaway(device: str, **options: Any) -> tuple[HamiltonianFlow, Tensor]:
    ode = flow(device, steps=8, coupling=1e7, gradient="adjoint_exact", **options)
    return ode, states(device, 3)


def test_an_overflow_turns_outputs_and_gradients_into_nan_and_is_raised(device: str) -> None:
    ode, z = runaway(device)
    end = ode(*z)[0]
    assert end.isnan().all()
    (dz,) = torch.autograd.grad(end.sum(), z)
    assert dz.isnan().all()
    with pytest.raises(LatticeOverflow, match="beyond the lattice"):
        ode.check()
    ode.check()  # told once


def test_an_overflow_without_gradient_is_raised_too(device: str) -> None:
    ode, z = runaway(device)
    with torch.no_grad():
        ode(*z)
    with pytest.raises(LatticeOverflow, match="beyond the lattice"):
        ode.check()


def test_another_flow_does_not_tell_of_it(device: str) -> None:
    ode, z = runaway(device)
    ode(*z)
    other = flow(device, gradient="adjoint_exact")
    other(*z)
    other.check()
    with pytest.raises(LatticeOverflow, match="beyond the lattice"):
        ode.check()


def test_overflow_falls_back_as_told_and_is_counted(device: str) -> None:
    ode, z = runaway(device, on_overflow="checkpoint")
    got = results(ode, z, "adjoint_exact")
    assert ode.overflows == 1
    torch.testing.assert_close(got, results(ode, z, "backprop"))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_states_that_are_not_finite_are_an_overflow(device: str, bad: float) -> None:
    z = states(device, 2).detach()
    z[0, 0, 0] = bad
    ode = flow(device, gradient="adjoint_exact")
    assert ode(*z)[0].isnan().all()
    with pytest.raises(LatticeOverflow):
        ode.check()


def test_weights_that_change_before_the_backward_pass_are_noticed(device: str) -> None:
    ode, z = flow(device, gradient="adjoint_exact"), states(device, 5)
    loss = ode(*z)[0].sum()
    ode.potential.W.data.mul_(1.5)  # .data: behind autograd's back
    (dz,) = torch.autograd.grad(loss, z)
    assert dz.isnan().all()
    with pytest.raises(LatticeCorrupted, match="does not end at its start"):
        ode.check()


@pytest.mark.gpu
def test_another_stream_has_buffers_of_its_own() -> None:
    ode, z = flow("cuda"), states("cuda", 300)
    wanted = results(ode, z, "adjoint_exact")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = results(ode, z, "adjoint_exact")
    torch.cuda.synchronize()
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))
    assert len({shape.stream for shape in gpu.workspaces()}) == 2


@pytest.mark.gpu
def test_the_host_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    ode, z = flow("cuda", gradient="adjoint_exact"), states("cuda", 300)
    results(ode, z, "adjoint_exact")  # compiles and records
    with warnings.catch_warnings(action="ignore"):  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(ode(*z)[0].sum(), z)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    ode.check()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ode: ode.double(), "float32, not float64"),
        (lambda ode: perceptron_flow(10, H, steps=1, dt=0.1), "multiples of 16"),
    ],
)
def test_what_the_kernels_cannot_do_is_refused(
    device: str, change: Callable[[Any], Any], reason: str
) -> None:
    ode = change(flow(device)).to(device)
    W = ode.potential.W
    assert reason in str(fused.refused(W.device, W.dtype, ode.hamiltonian()))
    q, p = torch.randn(2, 3, W.shape[1], dtype=W.dtype, device=device)
    found, wanted = (method(q, p, ode.problem()) for method in (fused.adjoint_exact, eager))
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


def test_without_triton_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(gpu, "INTERPRETED", True)
    monkeypatch.setattr(gpu.importlib, "import_module", gone)
    gpu._missing.cache_clear()
    ode = flow("cpu")
    W = ode.potential.W
    reason = fused.refused(W.device, W.dtype, ode.hamiltonian())
    gpu._missing.cache_clear()
    assert reason == "the fused kernels of adjoint_exact need Triton: No module named 'triton'"


def test_a_cpu_is_refused_with_a_reason() -> None:
    ode = flow("cpu")
    W = ode.potential.W
    assert fused.refused(W.device, W.dtype, ode.hamiltonian()) == (
        "the fused kernels of adjoint_exact need a GPU, not cpu"
    )


def test_pretending_a_gpu_gives_the_sizes_without_values() -> None:
    with FakeTensorMode(), as_on_gpu():
        ode = perceptron_flow(D, H, steps=3, dt=0.1, gradient="adjoint_exact")
        end = ode(*torch.randn(2, 70, D))[0]
        (dW,) = torch.autograd.grad(end.sum(), ode.potential.W)
        assert end.shape == (70, D)
        assert dW.shape == (H, D)
    assert not gpu.workspaces()


COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from phasebench.dynamics.gpu import kernels

FLAGS = {"KICK": True, "NORM": True, "D": 512, "WIDTH": 512, "LIMIT": 2.0**30}
TYPES = dict.fromkeys("QP", "*i32") | dict.fromkeys("UGX", "*bf16")
TYPES |= dict.fromkeys(("h", "d", "eps"), "fp32") | {"size": "i32"}
for kernel in (kernels.shear, kernels.unshear):
    names = kernel.arg_names
    types = {n: "constexpr" if n in FLAGS else TYPES.get(n, "*fp32") for n in names}
    flags = {(names.index(n),): FLAGS[n] for n in names if n in FLAGS}
    target, options = GPUTarget("cuda", 90, 32), {"enable_fp_fusion": False}
    made = compile(ASTSource(kernel, types, flags), target=target, options=options)
    print(kernel.__name__, made.asm["ptx"].count("fma.rn.f32"))
"""


def test_kernels_compile_for_a_gpu_that_is_not_there_and_fuse_no_product_into_a_sum() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    env = {key: x for key, x in os.environ.items() if key != "TRITON_INTERPRET"}
    call = [sys.executable, "-c", COMPILED]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["shear 0", "unshear 0"], done.stderr
