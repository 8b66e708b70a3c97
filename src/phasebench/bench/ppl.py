"""Perplexity of the candidate against its baseline, on trained weights and a whole split of real text.

With N nats summed over the split:  token ppl = exp(N / tokens),  word ppl = exp(N / words),  byte ppl = exp(N / bytes),
bits per byte = N / (bytes ln 2).  Words count one <eos> a row, as the published WikiText perplexities do.
"""

from __future__ import annotations

import math

from phasebench import data, evaluation
from phasebench.config import ConfigError, ModelConfig, PplConfig
from phasebench.data import Split
from phasebench.evaluation import Score, perplexity
from phasebench.models import LanguageModel
from phasebench.models.language_model import flops_per_token
from phasebench.results import BenchResult, Gate, Metric
from phasebench.workbench import Workbench

# A model that has not seen the text beats the source's own likelihood by x nats with probability below e^-x (Markov's
# inequality on the likelihood ratio, whose mean is at most 1): one that does so by this much has seen it.
_LEAK_NATS = math.log(1e9)
_LARGER = 1.05  # candidate's parameters over the baseline's, at most: more would be an advantage of size
_UNITS = {"word_ppl": "perplexity per word", "byte_ppl": "perplexity per byte", "bits_per_byte": "bit/byte"}
_NO_BASELINE = "no baseline to compare with (bench.ppl.baseline=null)"


def check(workbench: Workbench, config: PplConfig) -> None:
    """Raise `ConfigError` for a split without text."""
    if not len(workbench.corpus.splits[config.split].tokens):
        raise ConfigError("bench.ppl.split", config.split, "has no tokens", "another split, or more text")


def run(workbench: Workbench, config: PplConfig) -> BenchResult:
    """Score the model and, if there is one, its baseline; gate their ratio.

    Raises `evaluation.NotFinite` where a loss is NaN or infinite; no batch is ever skipped.
    """
    result = BenchResult(top={"ppl_target": config.target})
    scores = [_measure(workbench, config, workbench.config.model, "model", "candidate", result)]
    if config.baseline:
        scores.append(_measure(workbench, config, config.baseline, "bench.ppl.baseline", "baseline", result))
    _compare(result, config, *scores)
    _check_floor(result, config, workbench.corpus.splits[config.split], scores)
    _seed_keys(result, workbench.config.model, config.baseline)
    if config.max_batches is not None:
        result.notices.append(f"at most {config.max_batches} batches of the split were scored (bench.ppl.max_batches)")
    return result


def _measure(
    workbench: Workbench, config: PplConfig, model: ModelConfig, key: str, role: str, result: BenchResult
) -> Score:
    """Score one model and enter its numbers under its role."""
    trained = workbench.trained(model, key)
    split, stride = workbench.corpus.splits[config.split], config.stride or config.seq
    batches = data.scoring_batches(
        split.tokens, eos=workbench.corpus.eos, batch=config.batch, seq=config.seq, stride=stride
    )
    score = evaluation.score(
        trained.model, batches, device=workbench.device, precision=config.precision,
        loss_chunk=workbench.config.train.loss_chunk, max_batches=config.max_batches,
    )  # fmt: skip
    result.notices += trained.notices
    found = _metrics(score, split) | _size(trained.model, config.seq)
    result.metrics |= {f"{role}_{name}": metric for name, metric in found.items()}
    result.details[role] = {
        "name": model.name, "nats": score.nats, "tokens": score.tokens, "complete": score.complete,
        "stride": stride, "context": config.seq, "weights": trained.origin,
    }  # fmt: skip
    return score


def _metrics(score: Score, split: Split) -> dict[str, Metric]:
    metrics = {
        "ppl": Metric(score.perplexity, "perplexity per token"),
        "tokens": Metric(score.tokens, "tokens", kind="counted"),
    }
    if not score.complete:
        reason = "only a part of the split was scored (bench.ppl.max_batches)"
        return metrics | {name: Metric(None, unit, reason=reason) for name, unit in _UNITS.items()}
    per_byte = score.nats / split.bytes
    values = (perplexity(score.nats / split.words), perplexity(per_byte), per_byte / math.log(2))
    metrics |= {name: Metric(value, unit) for (name, unit), value in zip(_UNITS.items(), values, strict=True)}
    return metrics | {
        "words": Metric(split.words, "words", kind="counted"),
        "bytes": Metric(split.bytes, "bytes", kind="counted"),
    }


def _size(model: LanguageModel, seq: int) -> dict[str, Metric]:
    counts = model.parameter_counts()
    return {
        "parameters": Metric(counts["total"], "real parameters", kind="counted"),
        "parameters_without_embedding": Metric(counts["blocks"], "real parameters", kind="counted"),
        "flops_per_token": Metric(flops_per_token(model, seq), "FLOP/token", kind="counted"),
    }


def _compare(result: BenchResult, config: PplConfig, candidate: Score, baseline: Score | None = None) -> None:
    target = f"<= {config.target}"
    if baseline is None:
        result.gates.append(Gate("ppl_ratio", None, None, target, _NO_BASELINE))
        result.metrics["ppl_ratio"] = Metric(None, "model / baseline", reason=_NO_BASELINE)
        result.metrics["ppl_diff_pct"] = Metric(None, "%", reason=_NO_BASELINE)
        return
    ratio = perplexity(candidate.nats_per_token - baseline.nats_per_token)
    result.metrics["ppl_ratio"] = Metric(ratio, "model / baseline")
    result.gates.append(Gate("ppl_ratio", ratio <= config.target, ratio, target))
    result.top |= {"ppl_ratio": ratio, "ppl_diff_pct": 100 * (ratio - 1)}
    ours, theirs = (float(result.metrics[f"{role}_parameters"].value or 0) for role in ("candidate", "baseline"))
    result.metrics["parameter_ratio"] = Metric(ours / theirs, "model / baseline", kind="counted")
    result.gates.append(Gate("parameter_ratio", ours <= _LARGER * theirs, ours / theirs, f"<= {_LARGER}"))
    if ours * _LARGER < theirs:
        advice = "set the hidden width of both, model.hidden and bench.ppl.baseline.hidden"
        result.notices.append(f"the model has {ours / theirs:.2f} times its baseline's parameters: {advice}")


def _check_floor(result: BenchResult, config: PplConfig, split: Split, scores: list[Score]) -> None:
    """On text of known entropy that no training has seen, a loss far below the floor is a leak."""
    if split.entropy_nats is None or config.split == "train" or not all(score.complete for score in scores):
        return
    result.metrics["floor_ppl"] = Metric(perplexity(split.entropy_nats / split.words), "perplexity per word", "counted")
    excess = min(score.nats for score in scores) - split.entropy_nats
    result.metrics["above_source_floor"] = Metric(excess, "nats over the split")
    result.gates.append(Gate("above_source_floor", excess > -_LEAK_NATS, excess, f"> -{_LEAK_NATS:.1f} nats"))


def _seed_keys(result: BenchResult, model: ModelConfig, baseline: ModelConfig | None) -> None:
    """stage1_ppl and stage2_ppl, from models of those names only."""
    for role, config in (("baseline", baseline), ("candidate", model)):
        if config and config.name in ("stage1", "stage2"):
            result.top[f"{config.name}_ppl"] = result.metrics[f"{role}_ppl"].value
    for key in {"stage1_ppl", "stage2_ppl"} - set(result.top):
        reason = f"no {key.removesuffix('_ppl')} model in this run" if baseline else _NO_BASELINE
        result.metrics[key] = Metric(None, "perplexity per token", reason=reason)
