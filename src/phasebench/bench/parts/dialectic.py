"""Does the time-reversed flow tell wrong predictions from right ones, beyond their entropy?

Legend: x = (q, p) the state that the last block's flow starts from, Phi_t the flow over its time t,
of which Phi_{-t} = R Phi_t R with R p = -p is the model's own opposite; e the entropy of a
prediction, after the temperature of `calibration`; AUROC the probability that a wrong prediction
has a larger score than a right one.

    d    = |Phi_t(x) - 2 x + Phi_{-t}(x)|          0 for free motion, else about t^2 |x''|
    P(w) = 1 / (1 + exp(-(b_0 + b_1 e + b_2 d)))   that a prediction is wrong: fitted on validation
    gain = AUROC(b_1 e + b_2 d) - AUROC(e)         on the split
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from phasebench.data.batches import IGNORED
from phasebench.dynamics import HamiltonianFlow
from phasebench.dynamics.energy import flow_starts
from phasebench.models import LanguageModel
from phasebench.training.scoring import Batch, autocast, mode

Values = Float[np.ndarray, " n"]
Truth = Bool[np.ndarray, " n"]
RIDGE = 1e-6  # penalty on squared weights, so that separable predictions have a fit


def disagreement(flow: HamiltonianFlow, q: Tensor, p: Tensor) -> Tensor:
    """Compute d (...) of states (..., D), in their precision."""
    second = torch.cat((-2 * q, -2 * p), -1)
    for dt in (flow.dt, -flow.dt):
        (end,) = deque(flow.trajectory(q, p, steps=flow.steps, dt=dt), maxlen=1)
        second = second + torch.cat(end, -1)
    return torch.linalg.vector_norm(second, dim=-1)


def disagreements(
    model: LanguageModel, batches: Iterable[Batch], device: torch.device, precision: str
) -> Values:
    """Compute d at each scored token, of the last block's flow, in float32."""
    made = []
    with mode(model, training=False), torch.no_grad():
        for inputs, targets in batches:
            with autocast(device, precision):
                *_, (flow, q, p) = flow_starts(model, inputs.to(device))
            with autocast(device, "fp32"):
                d = disagreement(flow, q.float(), p.float())
            made.append(d.cpu()[targets.cpu() != IGNORED])
    return torch.cat(made).double().numpy()


def auroc(score: Values, wrong: Truth) -> float | None:
    """Compute AUROC by ranks, of which equal scores share one; None unless there are both kinds."""
    from scipy.stats import rankdata

    n = int(wrong.sum())
    if n in (0, len(wrong)):
        return None
    above = rankdata(score)[wrong].sum() - n * (n + 1) / 2
    return float(above / (n * (len(wrong) - n)))


def logistic(x: Float[np.ndarray, "n k"], wrong: Truth) -> Float[np.ndarray, " k"]:
    """Fit the weights of P(wrong), without b_0, by the largest likelihood."""
    from scipy.optimize import minimize
    from scipy.special import expit

    spread = x.std(0)
    spread[spread == 0] = 1.0
    X, sign = np.column_stack((np.ones(len(x)), (x - x.mean(0)) / spread)), 2.0 * wrong - 1

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        u = sign * (X @ b)
        slope = X.T @ (-sign * expit(-u)) / len(u) + RIDGE * b
        return np.logaddexp(0, -u).mean() + RIDGE / 2 * b @ b, slope

    return minimize(loss, np.zeros(X.shape[1]), jac=True, method="BFGS").x[1:] / spread


def gain(
    fitted: Float[np.ndarray, "m 2"], fitted_wrong: Truth, x: Float[np.ndarray, "n 2"], wrong: Truth
) -> float | None:
    """Compute the gain on x, columns (e, d), by weights of the fitted; None where AUROC is."""
    both = auroc(x @ logistic(fitted, fitted_wrong), wrong)
    alone = auroc(x[:, 0], wrong)
    return None if both is None or alone is None else both - alone
