"""Perplexity of the candidate against its baseline, on trained weights and a whole split of real
text.

With N nats summed over the split:  token ppl = exp(N / tokens),  word ppl = exp(N / words),  byte
ppl = exp(N / bytes),
bits per byte = N / (bytes ln 2).  Words count one <eos> a row, as the published WikiText
perplexities do.

A reference model may stand beside the baseline.  With `seeds`, every model is trained from each of
them: what is reported is then the mean over the seeds, ratios the geometric mean of the ratios of
    equal seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from phasebench import data
from phasebench.bench.evidence import scored, trained, weight_change, worst
from phasebench.bench.ppl.leak import leak
from phasebench.bench.ppl.seeds import ONE, Scored, Weights, ratio_metrics, spread
from phasebench.bench.workbench import Workbench
from phasebench.config import ConfigError, ModelConfig, PplConfig
from phasebench.data import Split
from phasebench.models.language_model import flops_per_token
from phasebench.results.gate import BenchResult, Gate, Metric, Need
from phasebench.training import scoring as evaluation
from phasebench.training.scoring import perplexity

# A model that has not seen the text beats the source's own likelihood by x nats with probability
# below e^-x (Markov's
# inequality on the likelihood ratio, whose mean is at most 1): one that does so by this much has
# seen it.
_LEAK_NATS = math.log(1e9)
_LARGER = 1.05  # candidate's parameters over another's, at most: more would be an advantage of size
_NO_BASELINE = "no baseline to compare with (bench.ppl.baseline=null)"
_KEYS = {
    "candidate": "model",
    "baseline": "bench.ppl.baseline",
    "reference": "bench.ppl.reference",
}  # of the roles

Scores = Mapping[str, Scored]  # by role
Metrics = dict[str, Metric]


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
    seeds = config.seeds or [workbench.config.seed]
    roles = _roles(workbench, config)
    scores = {role: Scored(model.name, seeds) for role, model in roles.items()}
    # all models of a seed before the next one's: what a killed run leaves can be compared
    for seed in seeds:
        for role, model in roles.items():
            scores[role].weights.append(_measure(workbench, config, model, role, seed))
    return judge(config, scores, workbench.corpus.splits[config.split])


def judge(config: PplConfig, scores: Scores, split: Split) -> BenchResult:
    """Compute and gate what the scores of all models and seeds say, by the role of a model."""
    metrics, gates = {}, []
    for role, model in scores.items():
        own = _metrics(model, split) | model.weights[0].sizes | spread(model)
        metrics |= {f"{role}_{name}": metric for name, metric in own.items()}
    for found in (
        _ratios(config, scores, metrics),
        _sizes(scores, metrics),
        _leaks(config, scores),
        _floor(config, split, scores),
    ):
        metrics |= found[0]
        gates += found[1]
    details = {role: _details(config, model) for role, model in scores.items()}
    metrics |= _stages(scores, metrics)
    return BenchResult(metrics, gates, details, _notices(config, scores, metrics))


def _roles(workbench: Workbench, config: PplConfig) -> dict[str, ModelConfig]:
    roles = {
        "candidate": workbench.config.model,
        "baseline": config.baseline,
        "reference": config.reference,
    }
    return {role: model for role, model in roles.items() if model}


def _measure(
    workbench: Workbench, config: PplConfig, model: ModelConfig, role: str, seed: int
) -> Weights:
    """Score one model's weights of one seed."""
    weights, corpus = workbench.trained(model, _KEYS[role], seed), workbench.corpus
    tokens, stride = corpus.splits[config.split].tokens, config.stride or config.seq
    score = evaluation.score(
        weights.model,
        data.scoring_batches(
            tokens, eos=corpus.eos, batch=config.batch, seq=config.seq, stride=stride
        ),
        device=workbench.device,
        precision=config.precision,
        loss_chunk=workbench.config.train.loss_chunk,
        max_batches=config.max_batches,
    )
    leaked = None
    if config.leak_test:
        with evaluation.autocast(workbench.device, "fp32"):
            leaked = leak(weights.model, tokens[: config.seq].to(workbench.device))
    counts = weights.model.parameter_counts()
    flops = flops_per_token(weights.model, config.seq)
    sizes = {
        "parameters": Metric(counts["total"], "real parameters", "counted"),
        "parameters_without_embedding": Metric(counts["blocks"], "real parameters", "counted"),
        "flops_per_token": Metric(flops, "FLOP/token", "counted"),
    }
    change = weight_change(weights.model, model, corpus.vocab_size, seed)
    return Weights(score, weights.origin, weights.notices, sizes, change, leaked)


def _details(config: PplConfig, model: Scored) -> dict[str, object]:
    """Nats and weights; of several seeds the first one's stand beside those of all."""
    score = model.scores[0]
    return {
        "name": model.name,
        "nats": score.nats,
        "tokens": score.tokens,
        "complete": score.complete,
        "stride": config.stride or config.seq,
        "context": config.seq,
        "weights": model.weights[0].origin,
        "seeds": model.rows(),
    }


def _notices(config: PplConfig, scores: Scores, metrics: Metrics) -> list[str]:
    notices = [text for model in scores.values() for w in model.weights for text in w.notices]
    if "baseline" in scores and len(scores["candidate"].seeds) > 1:
        notices.append(scores["candidate"].describe())
    ratio = metrics["parameter_ratio"].value if "parameter_ratio" in metrics else None
    if ratio is not None and float(ratio) * _LARGER < 1:
        advice = "set the hidden width of both, model.hidden and bench.ppl.baseline.hidden"
        notices.append(f"the model has {ratio:.2f} times its baseline's parameters: {advice}")
    if config.max_batches is not None:
        notices.append(
            f"at most {config.max_batches} batches of the split were scored (bench.ppl.max_batches)"
        )
    return notices


def _metrics(model: Scored, split: Split) -> Metrics:
    ppl = model.mean(lambda score: score.perplexity)
    metrics = {
        "ppl": Metric(ppl, "perplexity per token"),
        "tokens": Metric(model.scores[0].tokens, "tokens", kind="counted"),
    }
    reason = None
    if not model.complete:
        reason = "only a part of the split was scored (bench.ppl.max_batches)"
    for name, unit, value in (
        ("word_ppl", "perplexity per word", lambda nats: perplexity(nats / split.words)),
        ("byte_ppl", "perplexity per byte", lambda nats: perplexity(nats / split.bytes)),
        ("bits_per_byte", "bit/byte", lambda nats: nats / split.bytes / math.log(2)),
    ):
        mean = None if reason else model.mean(lambda score, value=value: value(score.nats))
        metrics[name] = Metric(mean, unit, reason=reason)
    if model.complete:
        metrics["words"] = Metric(split.words, "words", kind="counted")
        metrics["bytes"] = Metric(split.bytes, "bytes", kind="counted")
    return metrics


def _needs(*models: Scored) -> list[Need]:
    """What a gate on perplexities needs: enough tokens, and weights that a training has changed."""
    tokens = min(score.tokens for model in models for score in model.scores)
    change = min(weights.change for model in models for weights in model.weights)
    return [scored(tokens), trained(change)]


def _ratios(config: PplConfig, scores: Scores, metrics: Metrics) -> tuple[Metrics, list[Gate]]:
    """The ratio to the baseline and to the reference, and the gates on perplexities."""
    found, gates, ours = {}, [], scores["candidate"]
    if "baseline" in scores:
        found |= ratio_metrics("ppl_ratio", "model / baseline", ours, scores["baseline"])
        difference = 100 * (float(found["ppl_ratio"].value or math.nan) - 1)
        found["ppl_diff_pct"] = Metric(difference, "%")
    else:
        found["ppl_ratio"] = Metric(None, "model / baseline", reason=_NO_BASELINE)
        found["ppl_diff_pct"] = Metric(None, "%", reason=_NO_BASELINE)
    needs = _needs(*(scores[role] for role in ("candidate", "baseline") if role in scores))
    gates.append(Gate.check("ppl_ratio", found["ppl_ratio"], "<=", config.target, needs))
    if config.upper_target is not None:
        high = found.get("ppl_ratio_high") or Metric(None, "1", reason=ONE)
        gates.append(Gate.check("ppl_ratio_high", high, "<=", config.upper_target, needs))
    if config.max_ppl is not None:
        ppl = metrics["candidate_ppl"]
        gates.append(Gate.check("candidate_ppl", ppl, "<=", config.max_ppl, _needs(ours)))
    if "reference" in scores:
        name, theirs, limit = "reference_ratio", scores["reference"], config.reference_target
        found |= ratio_metrics(name, "model / reference", ours, theirs)
        gates.append(Gate.check(name, found[name], "<=", limit, _needs(ours, theirs)))
    return found, gates


def _sizes(scores: Scores, metrics: Metrics) -> tuple[Metrics, list[Gate]]:
    """The model's parameters over the others': more than a few percent would be an advantage of
    size.
    """
    found, gates = {}, []
    for role, name in (("baseline", "parameter_ratio"), ("reference", "reference_parameter_ratio")):
        if role in scores:
            ours, theirs = (
                float(metrics[f"{who}_parameters"].value or 0) for who in ("candidate", role)
            )
            found[name] = Metric(ours / theirs, f"model / {role}", kind="counted")
            gates.append(Gate.check(name, found[name], "<=", _LARGER))
    return found, gates


def _leaks(config: PplConfig, scores: Scores) -> tuple[Metrics, list[Gate]]:
    if not config.leak_test:
        return {}, []
    leaks = [w.leak for model in scores.values() for w in model.weights if w.leak is not None]
    metric = Metric(worst(leaks), "of the largest logit")
    return {"leak": metric}, [Gate.check("leak", metric, "==", 0, unit="bitwise")]


def _floor(config: PplConfig, split: Split, scores: Scores) -> tuple[Metrics, list[Gate]]:
    """On text of known entropy that no training has seen, a loss far below the floor is a leak."""
    complete = all(model.complete for model in scores.values())
    if split.entropy_nats is None or config.split == "train" or not complete:
        return {}, []
    lowest = min(score.nats for model in scores.values() for score in model.scores)
    floor, name = perplexity(split.entropy_nats / split.words), "above_source_floor"
    excess = Metric(lowest - split.entropy_nats, "nats over the split")
    needs = _needs(*scores.values())[:1]
    gate = Gate.check(name, excess, ">", -_LEAK_NATS, needs, "nats")
    return {"floor_ppl": Metric(floor, "perplexity per word", "counted"), name: excess}, [gate]


def _stages(scores: Scores, metrics: Metrics) -> Metrics:
    """stage1_ppl and stage2_ppl, from models of those names only; the candidate's where two have
    the name.
    """
    found = {}
    for stage in ("stage1", "stage2"):
        role = next((role for role, model in scores.items() if model.name == stage), None)
        reason = f"no {stage} model in this run" if "baseline" in scores else _NO_BASELINE
        unit = "perplexity per token"
        metric = metrics[f"{role}_ppl"] if role else Metric(None, unit, reason=reason)
        found[f"{stage}_ppl"] = metric
    return found
