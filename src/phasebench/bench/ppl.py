"""Perplexity of the candidate against its baseline, on trained weights and a whole split of real text.

With N nats summed over the split:  token ppl = exp(N / tokens),  word ppl = exp(N / words),  byte ppl = exp(N / bytes),
bits per byte = N / (bytes ln 2).  Words count one <eos> a row, as the published WikiText perplexities do.
"""

from __future__ import annotations

import math
from typing import Any

from phasebench import data, evaluation
from phasebench.config import ModelConfig, PplConfig
from phasebench.data import Split
from phasebench.evaluation import Score
from phasebench.models.language_model import flops_per_token
from phasebench.results import BenchResult, Gate, Metric
from phasebench.workbench import Workbench

# A model that has not seen the text beats the source's own likelihood by x nats with probability below e^-x (Markov's
# inequality on the likelihood ratio, whose mean is at most 1): one that does so by this much has seen it.
_LEAK_NATS = math.log(1e9)


def run(workbench: Workbench, config: PplConfig) -> BenchResult:
    """Score the model and, if there is one, its baseline; gate their ratio.

    Raises `evaluation.NotFinite` where a loss is NaN or infinite; no batch is ever skipped.
    """
    model = workbench.config.model
    result = BenchResult(metrics={}, gates=[], details={}, top={"ppl_target": config.target}, notices=[])
    candidate = _measure(workbench, config, model, "model", "stage2", result)
    baseline = None
    if config.baseline:
        baseline = _measure(workbench, config, config.baseline, "bench.ppl.baseline", "stage1", result)
    _compare(result, config, candidate, baseline)
    _check_floor(result, workbench.corpus.splits[config.split], candidate, baseline)
    return result


def _measure(
    workbench: Workbench, config: PplConfig, model: ModelConfig, key: str, role: str, result: BenchResult
) -> Score:
    """Score one model and enter its numbers under its role: stage2 is the candidate, stage1 the baseline."""
    trained = workbench.trained(model, key)
    split = workbench.corpus.splits[config.split]
    batches = data.scoring_batches(
        split.tokens, eos=workbench.corpus.eos, batch=config.batch, seq=config.seq, stride=config.stride or config.seq
    )
    score = evaluation.score(
        trained.model, batches, device=workbench.device, precision=config.precision,
        loss_chunk=workbench.config.train.loss_chunk, max_batches=config.max_batches,
    )  # fmt: skip
    result.metrics |= {f"{role}_{k}": m for k, m in _metrics(score, split).items()}
    result.metrics |= {f"{role}_{k}": m for k, m in _size(trained.model, config.seq).items()}
    result.top[f"{role}_ppl"] = math.exp(score.nats / score.tokens)
    result.details[role] = {
        "name": model.name, "nats": score.nats, "tokens": score.tokens, "complete": score.complete,
        "stride": config.stride or config.seq, "context": config.seq, "weights": trained.origin,
    }  # fmt: skip
    return score


def _metrics(score: Score, split: Split) -> dict[str, Metric]:
    metrics = {
        "ppl": Metric(math.exp(score.nats / score.tokens), "perplexity per token"),
        "tokens": Metric(score.tokens, "tokens", kind="counted"),
    }
    if not score.complete:
        reason = "only a part of the split was scored (bench.ppl.max_batches)"
        return metrics | {k: Metric(None, unit, reason=reason) for k, unit in _UNITS.items()}
    per_byte = score.nats / split.bytes
    values = (math.exp(score.nats / split.words), math.exp(per_byte), per_byte / math.log(2))
    metrics |= {k: Metric(v, unit) for (k, unit), v in zip(_UNITS.items(), values, strict=True)}
    return metrics | {
        "words": Metric(split.words, "words", kind="counted"),
        "bytes": Metric(split.bytes, "bytes", kind="counted"),
    }


_UNITS = {"word_ppl": "perplexity per word", "byte_ppl": "perplexity per byte", "bits_per_byte": "bit/byte"}


def _size(model: Any, seq: int) -> dict[str, Metric]:
    counts = model.parameter_counts()
    return {
        "parameters": Metric(counts["total"], "real parameters", kind="counted"),
        "parameters_without_embedding": Metric(counts["blocks"], "real parameters", kind="counted"),
        "flops_per_token": Metric(flops_per_token(model, seq), "FLOP/token", kind="counted"),
    }


def _compare(result: BenchResult, config: PplConfig, candidate: Score, baseline: Score | None) -> None:
    target = f"<= {config.target}"
    if baseline is None:
        reason = "no baseline to compare with (bench.ppl.baseline=null)"
        result.gates.append(Gate("ppl_ratio", None, None, target, reason))
        result.metrics["ppl_ratio"] = Metric(None, "model / baseline", reason=reason)
        return
    ratio = math.exp(candidate.nats / candidate.tokens - baseline.nats / baseline.tokens)
    result.metrics["ppl_ratio"] = Metric(ratio, "model / baseline")
    result.gates.append(Gate("ppl_ratio", ratio <= config.target, ratio, target))
    result.top |= {"ppl_ratio": ratio, "ppl_diff_pct": 100 * (ratio - 1)}
    _compare_sizes(result)


def _compare_sizes(result: BenchResult) -> None:
    ours, theirs = (int(result.metrics[f"{role}_parameters"].value or 0) for role in ("stage2", "stage1"))
    if ours > 1.05 * theirs:
        result.notices.append(f"the model has {ours:,} parameters, more than 5 % above its baseline's {theirs:,}")


def _check_floor(result: BenchResult, split: Split, *scores: Score | None) -> None:
    if split.entropy_nats is None or not all(s.complete for s in scores if s):
        return
    floor = split.entropy_nats
    result.metrics["floor_ppl"] = Metric(math.exp(floor / split.words), "perplexity per word", kind="counted")
    excess = min(s.nats for s in scores if s) - floor
    result.metrics["above_source_floor"] = Metric(excess, "nats over the split")
    result.gates.append(Gate("above_source_floor", excess > -_LEAK_NATS, excess, f"> -{_LEAK_NATS:.1f} nats"))
