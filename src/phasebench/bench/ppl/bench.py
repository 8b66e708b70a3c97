"""Perplexity of the candidate against its baseline, on trained weights and a whole split of real text.

With N nats summed over the split:  token ppl = exp(N / tokens),  word ppl = exp(N / words),  byte ppl = exp(N / bytes),
bits per byte = N / (bytes ln 2).  Words count one <eos> a row, as the published WikiText perplexities do.

A reference model may stand beside the baseline.  With `seeds`, every model is trained from each of them: what is
reported is then the mean over the seeds, ratios the geometric mean of the ratios of equal seeds.
"""

from __future__ import annotations

import math

from phasebench import data
from phasebench.bench.ppl.leak import leak
from phasebench.bench.ppl.seeds import Scored, ratio_metrics, spread, upper_gate
from phasebench.bench.workbench import Workbench
from phasebench.config import ConfigError, ModelConfig, PplConfig
from phasebench.data import Split
from phasebench.models import LanguageModel
from phasebench.models.language_model import flops_per_token
from phasebench.results.file import BenchResult, Gate, Metric
from phasebench.training import scoring as evaluation
from phasebench.training.scoring import perplexity
from phasebench.training.weights import Trained

# A model that has not seen the text beats the source's own likelihood by x nats with probability below e^-x (Markov's
# inequality on the likelihood ratio, whose mean is at most 1): one that does so by this much has seen it.
_LEAK_NATS = math.log(1e9)
_LARGER = 1.05  # candidate's parameters over another's, at most: more would be an advantage of size
_NO_BASELINE = "no baseline to compare with (bench.ppl.baseline=null)"
_KEYS = {
    "candidate": "model",
    "baseline": "bench.ppl.baseline",
    "reference": "bench.ppl.reference",
}  # of the roles

Scores = dict[str, Scored]  # by role


def check(workbench: Workbench, config: PplConfig) -> None:
    """Raise `ConfigError` for a split without text, and for seeds beside given weights."""
    if not len(workbench.corpus.splits[config.split].tokens):
        raise ConfigError(
            "bench.ppl.split", config.split, "has no tokens", "another split, or more text"
        )
    for role, model in _roles(workbench, config).items():
        if config.seeds and model.checkpoint:
            raise ConfigError(
                "bench.ppl.seeds",
                config.seeds,
                f"{_KEYS[role]}.checkpoint is of one seed",
                f"bench.ppl.seeds=null, or {_KEYS[role]}.checkpoint=null",
            )


def run(workbench: Workbench, config: PplConfig) -> BenchResult:
    """Score the model, its baseline and the reference, as far as there are any; gate their ratios.

    Raises `evaluation.NotFinite` where a loss is NaN or infinite; no batch is ever skipped.
    """
    result = BenchResult(top={"ppl_target": config.target})
    seeds = config.seeds or [workbench.config.seed]
    roles = _roles(workbench, config)
    scores: Scores = {role: Scored(seeds) for role in roles}
    for seed in (
        seeds
    ):  # all models of a seed before the next one's: what a killed run leaves can be compared
        for role, model in roles.items():
            _measure(workbench, config, model, role, seed, scores[role], result)
    split = workbench.corpus.splits[config.split]
    for role, scored in scores.items():
        result.metrics |= {
            f"{role}_{name}": m for name, m in (_metrics(scored, split) | spread(scored)).items()
        }
        result.details[role] |= {"seeds": scored.rows()}
    _compare(result, config, scores)
    _check_reference(result, config, scores)
    _check_floor(result, config, split, scores)
    _check_size_and_leak(result, config)
    _spec_keys(result, roles)
    if config.max_batches is not None:
        result.notices.append(
            f"at most {config.max_batches} batches of the split were scored (bench.ppl.max_batches)"
        )
    return result


def _roles(workbench: Workbench, config: PplConfig) -> dict[str, ModelConfig]:
    roles = {
        "candidate": workbench.config.model,
        "baseline": config.baseline,
        "reference": config.reference,
    }
    return {role: model for role, model in roles.items() if model}


def _measure(
    workbench: Workbench,
    config: PplConfig,
    model: ModelConfig,
    role: str,
    seed: int,
    scored: Scored,
    result: BenchResult,
) -> None:
    """Score one model's weights of one seed; sizes and conditions are entered with the first."""
    trained = workbench.trained(model, _KEYS[role], seed)
    split, stride = workbench.corpus.splits[config.split], config.stride or config.seq
    batches = data.scoring_batches(
        split.tokens, eos=workbench.corpus.eos, batch=config.batch, seq=config.seq, stride=stride
    )
    score = evaluation.score(
        trained.model,
        batches,
        device=workbench.device,
        precision=config.precision,
        loss_chunk=workbench.config.train.loss_chunk,
        max_batches=config.max_batches,
    )
    scored.scores.append(score)
    scored.origins.append(trained.origin)
    result.notices += trained.notices
    if role not in result.details:
        result.metrics |= {
            f"{role}_{name}": metric for name, metric in _size(trained.model, config.seq).items()
        }
        result.details[role] = {
            "name": model.name,
            "nats": score.nats,
            "tokens": score.tokens,
            "complete": score.complete,
            "stride": stride,
            "context": config.seq,
            "weights": trained.origin,
        }
    if config.leak_test:
        scored.leaks.append(_leak(workbench, config, trained))


def _leak(workbench: Workbench, config: PplConfig, trained: Trained) -> float:
    tokens = workbench.corpus.splits[config.split].tokens[: config.seq].to(workbench.device)
    with evaluation.autocast(workbench.device, "fp32"):
        return leak(trained.model, tokens)


def _metrics(scored: Scored, split: Split) -> dict[str, Metric]:
    units = {
        "word_ppl": "perplexity per word",
        "byte_ppl": "perplexity per byte",
        "bits_per_byte": "bit/byte",
    }
    metrics = {
        "ppl": Metric(scored.mean(lambda score: score.perplexity), "perplexity per token"),
        "tokens": Metric(scored.scores[0].tokens, "tokens", kind="counted"),
    }
    if not scored.complete:
        reason = "only a part of the split was scored (bench.ppl.max_batches)"
        return metrics | {name: Metric(None, unit, reason=reason) for name, unit in units.items()}
    values = (
        scored.mean(lambda score: perplexity(score.nats / split.words)),
        scored.mean(lambda score: perplexity(score.nats / split.bytes)),
        scored.mean(lambda score: score.nats / split.bytes / math.log(2)),
    )
    metrics |= {
        name: Metric(value, unit) for (name, unit), value in zip(units.items(), values, strict=True)
    }
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


def _compare(result: BenchResult, config: PplConfig, scores: Scores) -> None:
    """The ratio to the baseline, its gates, and the model's own perplexity if that has a gate."""
    target = f"<= {config.target}"
    if "baseline" in scores:
        result.metrics |= ratio_metrics(
            "ppl_ratio", "model / baseline", scores["candidate"], scores["baseline"]
        )
        ratio = float(result.metrics["ppl_ratio"].value or math.nan)
        result.gates.append(Gate("ppl_ratio", ratio <= config.target, ratio, target))
        result.top |= {"ppl_ratio": ratio, "ppl_diff_pct": 100 * (ratio - 1)}
        if scores["candidate"].several:
            result.notices.append(scores["candidate"].describe())
    else:
        result.gates.append(Gate("ppl_ratio", None, None, target, _NO_BASELINE))
        result.metrics["ppl_ratio"] = Metric(None, "model / baseline", reason=_NO_BASELINE)
        result.metrics["ppl_diff_pct"] = Metric(None, "%", reason=_NO_BASELINE)
    if config.upper_target is not None:
        result.gates.append(upper_gate(result.metrics.get("ppl_ratio_high"), config.upper_target))
    if config.max_ppl is not None:
        ours = float(result.metrics["candidate_ppl"].value or math.nan)
        result.gates.append(
            Gate("candidate_ppl", ours <= config.max_ppl, ours, f"<= {config.max_ppl:g}")
        )


def _check_reference(result: BenchResult, config: PplConfig, scores: Scores) -> None:
    if "reference" not in scores:
        return
    found = ratio_metrics(
        "reference_ratio", "model / reference", scores["candidate"], scores["reference"]
    )
    result.metrics |= found
    ratio = float(found["reference_ratio"].value or math.nan)
    target = config.reference_target
    result.gates.append(Gate("reference_ratio", ratio <= target, ratio, f"<= {target:g}"))


def _check_size_and_leak(result: BenchResult, config: PplConfig) -> None:
    for role, name in (("baseline", "parameter_ratio"), ("reference", "reference_parameter_ratio")):
        if role in result.details:
            _check_size(result, role, name)
    if config.leak_test:
        leaks = {
            role: result.metrics[f"{role}_leak"].value for role in _KEYS if role in result.details
        }
        worst = max(float(value or 0) for value in leaks.values())
        result.metrics["leak"] = Metric(worst, "of the largest logit")
        result.gates.append(Gate("leak", worst == 0, worst, "0, bitwise"))


def _check_size(result: BenchResult, role: str, name: str) -> None:
    ours, theirs = (
        float(result.metrics[f"{who}_parameters"].value or 0) for who in ("candidate", role)
    )
    result.metrics[name] = Metric(ours / theirs, f"model / {role}", kind="counted")
    result.gates.append(Gate(name, ours <= _LARGER * theirs, ours / theirs, f"<= {_LARGER}"))
    if ours * _LARGER < theirs and role == "baseline":
        advice = "set the hidden width of both, model.hidden and bench.ppl.baseline.hidden"
        result.notices.append(
            f"the model has {ours / theirs:.2f} times its baseline's parameters: {advice}"
        )


def _check_floor(result: BenchResult, config: PplConfig, split: Split, scores: Scores) -> None:
    """On text of known entropy that no training has seen, a loss far below the floor is a leak."""
    if (
        split.entropy_nats is None
        or config.split == "train"
        or not all(s.complete for s in scores.values())
    ):
        return
    result.metrics["floor_ppl"] = Metric(
        perplexity(split.entropy_nats / split.words), "perplexity per word", "counted"
    )
    excess = (
        min(score.nats for scored in scores.values() for score in scored.scores)
        - split.entropy_nats
    )
    result.metrics["above_source_floor"] = Metric(excess, "nats over the split")
    result.gates.append(
        Gate("above_source_floor", excess > -_LEAK_NATS, excess, f"> -{_LEAK_NATS:.1f} nats")
    )


def _spec_keys(result: BenchResult, roles: dict[str, ModelConfig]) -> None:
    """stage1_ppl and stage2_ppl, from models of those names only; the candidate's where two have the name."""
    for role, config in reversed(roles.items()):
        if config.name in ("stage1", "stage2"):
            result.top[f"{config.name}_ppl"] = result.metrics[f"{role}_ppl"].value
    for key in {"stage1_ppl", "stage2_ppl"} - set(result.top):
        reason = (
            f"no {key.removesuffix('_ppl')} model in this run"
            if "baseline" in roles
            else _NO_BASELINE
        )
        result.metrics[key] = Metric(None, "perplexity per token", reason=reason)
