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
import statistics
from collections.abc import Mapping

from phasebench.bench.evidence import scored, trained, weight_change, worst
from phasebench.bench.ppl.leak import leak
from phasebench.bench.ppl.seeds import ONE, Scored, Weights, ratio_metrics, spread
from phasebench.bench.workbench import Workbench, roles, score_split
from phasebench.config import ConfigError, ModelConfig, PplConfig
from phasebench.data import Split
from phasebench.models.language_model import flops_per_token
from phasebench.results.gate import BenchResult, Gate, Metric, Need
from phasebench.training import scoring as evaluation
from phasebench.training.scoring import perplexity

# A model that has not seen the text beats the source's own likelihood by x nats with probability
# below e^-x (Markov's inequality on the likelihood ratio, whose mean is at most 1): one that does
# so by this much has seen it.
_LEAK_NATS = math.log(1e9)
_LARGER = 1.05  # candidate's parameters over another's, at most: more would be an advantage of size
_NO_BASELINE = "no baseline to compare with (bench.ppl.baseline=null)"
_PPL = "perplexity per token"

Scores = Mapping[str, Scored]  # by role
Metrics = dict[str, Metric]


def check(workbench: Workbench, config: PplConfig) -> None:
    """Raise `ConfigError` for a split without text, and for seeds beside given weights."""
    if not len(workbench.corpus.splits[config.split].tokens):
        fix = "another split, or more text"
        raise ConfigError("bench.ppl.split", config.split, "has no tokens", fix)
    for key, model in roles(workbench.config, "ppl", config).values():
        if config.seeds and model.checkpoint:
            problem = f"{key}.checkpoint is of one seed"
            fix = f"bench.ppl.seeds=null, or {key}.checkpoint=null"
            raise ConfigError("bench.ppl.seeds", config.seeds, problem, fix)


def run(workbench: Workbench, config: PplConfig) -> BenchResult:
    """Score the model, its baseline and the reference, as far as there are any; gate their ratios.

    Raises `evaluation.NotFinite` where a loss is NaN or infinite; no batch is ever skipped.
    """
    seeds = config.seeds or [workbench.config.seed]
    models = roles(workbench.config, "ppl", config)
    scores = {
        role: Scored(model.name, seeds, tokenizer=workbench.corpus_of(model).tokenizer_name)
        for role, (_, model) in models.items()
    }
    # all models of a seed before the next one's: what a killed run leaves can be compared
    for seed in seeds:
        for role, (key, model) in models.items():
            scores[role].weights.append(_measure(workbench, config, model, key, seed))
    return judge(config, scores, workbench.corpus.splits[config.split])


def judge(config: PplConfig, scores: Scores, split: Split) -> BenchResult:
    """Compute and gate what the scores of all models and seeds say, by the role of a model."""
    metrics, gates = {}, []
    for role, model in scores.items():
        own = _metrics(model, split) | model.weights[0].sizes | spread(model)
        metrics |= {f"{role}_{name}": metric for name, metric in own.items()}
    for added, judged in (
        _ratios(config, scores, metrics, split),
        _sizes(scores, metrics),
        _leaks(config, scores),
        _floor(config, split, scores),
    ):
        metrics |= added
        gates += judged
    # stage1_ppl and stage2_ppl are of models of those names only; the candidate's if two have it
    for stage in ("stage1", "stage2"):
        reason = f"no {stage} model in this run" if "baseline" in scores else _NO_BASELINE
        known = [metrics[f"{role}_ppl"] for role, model in scores.items() if model.name == stage]
        metrics[f"{stage}_ppl"] = known[0] if known else Metric(None, _PPL, reason=reason)
    metrics |= _stage3(scores, metrics)
    details = {role: _details(config, model) for role, model in scores.items()}
    return BenchResult(metrics, gates, details, _notices(config, scores, metrics))


def _stage3(scores: Scores, metrics: Metrics) -> Metrics:
    """Give a candidate of Stage 3 its own keys, and its ratio where the baseline is Stage 2."""
    if scores["candidate"].name != "stage3":
        return {}
    names = {"candidate_ppl": "stage3_ppl", "candidate_leak": "stage3_leak"}
    if "baseline" in scores and scores["baseline"].name == "stage2":
        names |= {f"ppl_ratio{end}": f"stage3_ratio{end}" for end in ("", "_low", "_high")}
    return {name: metrics[key] for key, name in names.items() if key in metrics}


def _measure(
    workbench: Workbench, config: PplConfig, settings: ModelConfig, key: str, seed: int
) -> Weights:
    """Score one model's weights of one seed."""
    weights, corpus = workbench.trained(settings, key, seed), workbench.corpus_of(settings)
    model = weights.model
    score = score_split(
        workbench,
        model,
        config.split,
        batch=config.batch,
        seq=config.seq,
        stride=config.stride,
        precision=config.precision,
        max_batches=config.max_batches,
        corpus=corpus,
    )
    leaked = None
    if config.leak_test:
        with evaluation.autocast(workbench.device, "fp32"):
            tokens = corpus.splits[config.split].tokens[: config.seq]
            leaked = leak(model, tokens.to(workbench.device))
    counts = model.parameter_counts()
    sizes = {
        "parameters": Metric(counts["total"], "real parameters", "counted"),
        "parameters_without_embedding": Metric(counts["blocks"], "real parameters", "counted"),
        "flops_per_token": Metric(flops_per_token(model, config.seq), "FLOP/token", "counted"),
    }
    change = weight_change(model, settings, corpus.vocab_size, seed)
    return Weights(score, weights.origin, weights.notices, sizes, change, leaked)


def _details(config: PplConfig, model: Scored) -> dict[str, object]:
    """Nats and weights; of several seeds the first one's stand beside those of all."""
    score = model.scores[0]
    return {
        "name": model.name,
        "tokenizer": model.tokenizer,
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
    ratio = float(metrics["parameter_ratio"].value or 0) if "parameter_ratio" in metrics else 1.0
    if ratio * _LARGER < 1:
        advice = "set the hidden width of both, model.hidden and bench.ppl.baseline.hidden"
        notices.append(f"the model has {ratio:.2f} times its baseline's parameters: {advice}")
    if len({model.tokenizer for model in scores.values()}) > 1:
        notices.append(
            "the models' tokenizers differ: ratios are of perplexities per word, and those per "
            "token do not compare"
        )
    if config.max_batches is not None:
        scored_part = f"at most {config.max_batches} batches of the split were scored"
        notices.append(f"{scored_part} (bench.ppl.max_batches)")
    return notices


def _metrics(model: Scored, split: Split) -> Metrics:
    metrics = {
        "ppl": Metric(statistics.fmean(score.perplexity for score in model.scores), _PPL),
        "tokens": Metric(model.scores[0].tokens, "tokens", "counted"),
    }
    part = "only a part of the split was scored (bench.ppl.max_batches)"
    for name, unit, value in (
        ("word_ppl", "perplexity per word", lambda nats: perplexity(nats / split.words)),
        ("byte_ppl", "perplexity per byte", lambda nats: perplexity(nats / split.bytes)),
        ("bits_per_byte", "bit/byte", lambda nats: nats / split.bytes / math.log(2)),
    ):
        metrics[name] = Metric(None, unit, reason=part)
        if model.complete:
            metrics[name] = Metric(statistics.fmean(value(x.nats) for x in model.scores), unit)
    if model.complete:
        metrics["words"] = Metric(split.words, "words", "counted")
        metrics["bytes"] = Metric(split.bytes, "bytes", "counted")
    return metrics


def _needs(*models: Scored) -> list[Need]:
    """What a gate on perplexities needs: enough tokens, and weights that a training has changed."""
    tokens = min(score.tokens for model in models for score in model.scores)
    change = min(weights.change for model in models for weights in model.weights)
    return [scored(tokens), trained(change)]


def _ratios(
    config: PplConfig, scores: Scores, metrics: Metrics, split: Split
) -> tuple[Metrics, list[Gate]]:
    """The ratio to the baseline and to the reference, and the gates on perplexities."""
    ours, unit = scores["candidate"], "model / baseline"
    ratios = {
        "ppl_ratio": Metric(None, unit, reason=_NO_BASELINE),
        "ppl_diff_pct": Metric(None, "%", reason=_NO_BASELINE),
    }
    compared = [ours]
    if "baseline" in scores:
        theirs = scores["baseline"]
        compared.append(theirs)
        ratios |= ratio_metrics("ppl_ratio", unit, ours, theirs, split.words)
        if (ratio := ratios["ppl_ratio"].value) is not None:
            ratios["ppl_diff_pct"] = Metric(100 * (float(ratio) - 1), "%")
    needs = _needs(*compared)
    gates = [Gate.check("ppl_ratio", ratios["ppl_ratio"], "<=", config.target, needs)]
    if config.upper_target is not None:
        missing = ONE if len(compared) > 1 else _NO_BASELINE
        high = ratios.get("ppl_ratio_high") or Metric(None, "1", reason=missing)
        gates.append(Gate.check("ppl_ratio_high", high, "<=", config.upper_target, needs))
    if config.max_ppl is not None:
        ppl = metrics["candidate_ppl"]
        gates.append(Gate.check("candidate_ppl", ppl, "<=", config.max_ppl, _needs(ours)))
    if "reference" in scores:
        name, theirs, limit = "reference_ratio", scores["reference"], config.reference_target
        ratios |= ratio_metrics(name, "model / reference", ours, theirs, split.words)
        gates.append(Gate.check(name, ratios[name], "<=", limit, _needs(ours, theirs)))
    return ratios, gates


def _sizes(scores: Scores, metrics: Metrics) -> tuple[Metrics, list[Gate]]:
    """The model's parameters over the others': more than a few percent would be an advantage of
    size.
    """
    names = {"baseline": "parameter_ratio", "reference": "reference_parameter_ratio"}
    count = {role: float(metrics[f"{role}_parameters"].value or 0) for role in scores}
    ratios = {
        name: Metric(count["candidate"] / count[role], f"model / {role}", "counted")
        for role, name in names.items()
        if role in scores
    }
    return ratios, [Gate.check(name, ratio, "<=", _LARGER) for name, ratio in ratios.items()]


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
