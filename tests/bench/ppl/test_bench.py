"""The perplexity benchmark on models whose perplexity is known, with a workbench that only holds
things.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from phasebench.bench import evidence
from phasebench.bench.ppl import bench as ppl
from phasebench.config import (
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    PplConfig,
    SyntheticConfig,
)
from phasebench.data import IGNORED, Corpus, Split, SyntheticSource, load_corpus
from phasebench.models import ComplexLanguageModel, LanguageModel, Stage1Block, build_model
from phasebench.results.gate import BenchResult, Gate, finished
from phasebench.training.scoring import NotFinite
from phasebench.training.weights import Trained
from tiny import CPU

TINY = ModelConfig(name="stage1", dim=4, blocks=1, heads=1, hidden=4)
VOCAB = 37
Predict = Callable[[Tensor], Tensor]  # tokens (B, T) -> ln p of the next token (B, T, V)


class Scripted(ComplexLanguageModel):
    """A model that predicts as told, and remembers the targets that it was scored on, window by
    window.
    """

    def __init__(self, predict: Predict, vocab: int = VOCAB, parameters: int = 100) -> None:
        super().__init__(TINY, vocab, Stage1Block)
        self.predict, self.parameters_told = predict, parameters
        self.scored: list[Tensor] = []

    def loss(self, tokens: Tensor, targets: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        here = targets != IGNORED
        self.scored += [row[scored] for row, scored in zip(targets, here, strict=True)]
        logs = self.predict(tokens)
        return F.nll_loss(logs[here], targets[here], reduction="sum"), here.sum()

    def parameter_counts(self) -> dict[str, int]:
        return {"total": self.parameters_told, "blocks": 1}


def constant(nats: float) -> Predict:
    """Every token has the surprisal `nats`; not a distribution, but all that a ratio sees."""
    return lambda tokens: torch.full((*tokens.shape, VOCAB), -nats, dtype=torch.float64)


@dataclass
class Bench:
    """What `ppl.run` uses of a workbench."""

    corpus: Corpus
    models: dict[str, LanguageModel]  # by dotted key
    config: Config = field(default_factory=Config)
    device: torch.device = CPU

    def trained(self, config: ModelConfig, key: str, seed: int | None = None) -> Trained:
        return Trained(self.models[key], {"origin": "given"})

    def corpus_of(self, model: ModelConfig) -> Corpus:
        return self.corpus


def text(
    n: int = 50, words: int = 20, size: int = 90, entropy: float | None = None, vocab: int = VOCAB
) -> Corpus:
    tokens = torch.randint(0, vocab, (n,), generator=torch.Generator().manual_seed(3))
    split = Split("test", tokens, words, size, entropy)
    return Corpus(
        name="text",
        source="here",
        splits={"test": split},
        vocab_size=vocab,
        eos=0,
        tokenizer_name="none",
        tokenizer_json="",
        fingerprint="",
        comparable=False,
        notice=None,
        entropy_rate=None,
    )


def measured(
    corpus: Corpus, model: LanguageModel, baseline: LanguageModel | None = None, **changes: Any
) -> BenchResult:
    values: dict[str, Any] = {"batch": 2, "seq": 8, "precision": "fp32"} | changes
    config = PplConfig(baseline=TINY if baseline else None, **values)
    models = {"model": model} | ({"bench.ppl.baseline": baseline} if baseline else {})
    return ppl.run(Bench(corpus, models), config)  # type: ignore[arg-type]


def number(result: BenchResult, key: str) -> float:
    found = result.metrics[key].value
    assert isinstance(found, int | float)
    return found


def gate(result: BenchResult, name: str) -> Gate:
    (found,) = (g for g in result.gates if g.name == name)
    return found


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts here are short, and the scripted models are not trained."""
    monkeypatch.setattr(evidence, "TOKENS", 10)
    monkeypatch.setattr(ppl, "weight_change", lambda *_: 1.0)


# perplexity


@pytest.mark.parametrize("name", ["stage1", "stage2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_uniform_model_has_the_vocabulary_size_as_its_perplexity(
    name: str, precision: str
) -> None:
    model = build_model(ModelConfig(name=name, dim=4, blocks=1, heads=1, hidden=4), VOCAB)
    torch.nn.init.zeros_(model.embedding.weight)
    result = measured(text(), model, precision=precision)
    assert number(result, "candidate_ppl") == pytest.approx(VOCAB, rel=1e-6)
    assert number(result, "stage2_ppl") == number(result, "candidate_ppl")


def test_token_word_and_byte_perplexities_share_their_nats() -> None:
    corpus = text(n=50, words=20, size=90)
    model = build_model(TINY, VOCAB)
    result = measured(corpus, model)
    nats = result.details["candidate"]["nats"]
    inputs = torch.cat([torch.zeros(1, dtype=torch.int64), corpus.splits["test"].tokens])
    with torch.no_grad():  # windows of 8 tokens, each without what came before
        windows = [(inputs[i : min(i + 8, 50)], inputs[i + 1 : i + 9]) for i in range(0, 50, 8)]
        wanted = sum(
            float(F.cross_entropy(model(x[None])[0].double(), y, reduction="sum"))
            for x, y in windows
        )
    assert nats == pytest.approx(wanted, rel=1e-6)
    assert number(result, "candidate_ppl") == pytest.approx(math.exp(nats / 50))
    assert number(result, "candidate_word_ppl") == pytest.approx(math.exp(nats / 20))
    assert number(result, "candidate_byte_ppl") == pytest.approx(math.exp(nats / 90))
    assert number(result, "candidate_bits_per_byte") == pytest.approx(nats / 90 / math.log(2))
    counts = {key: number(result, f"candidate_{key}") for key in ("tokens", "words", "bytes")}
    assert counts == {"tokens": 50, "words": 20, "bytes": 90}
    assert {result.metrics[f"candidate_{key}"].kind for key in counts} == {"counted"}


@pytest.mark.parametrize(
    ("seq", "stride", "batch"), [(8, None, 2), (8, 3, 4), (8, 1, 5), (64, None, 1), (7, 7, 100)]
)
def test_the_split_is_scored_once_token_for_token(seq: int, stride: int | None, batch: int) -> None:
    corpus, model = text(n=50), Scripted(constant(2.0))
    result = measured(corpus, model, seq=seq, stride=stride, batch=batch)
    assert torch.equal(torch.cat(model.scored), corpus.splits["test"].tokens)
    assert {len(window) for window in model.scored[:-1]} <= {stride or seq}
    facts = result.details["candidate"]
    assert number(result, "candidate_tokens") == facts["tokens"] == 50
    assert (facts["complete"], facts["stride"], facts["context"]) == (True, stride or seq, seq)
    assert facts["nats"] == pytest.approx(100.0)


def test_a_part_of_the_split_has_no_word_perplexity_and_no_floor() -> None:
    corpus = text(n=50, entropy=120.0)
    result = measured(corpus, Scripted(constant(2.0)), Scripted(constant(2.0)), max_batches=2)
    assert number(result, "candidate_tokens") == 2 * 2 * 8
    assert number(result, "candidate_ppl") == pytest.approx(math.exp(2.0))
    for role in ("candidate", "baseline"):
        assert result.details[role]["complete"] is False
        for key in ("word_ppl", "byte_ppl", "bits_per_byte"):
            metric = result.metrics[f"{role}_{key}"]
            assert metric.value is None
            assert "bench.ppl.max_batches" in (metric.reason or "")
    assert [g.name for g in result.gates] == ["ppl_ratio", "parameter_ratio"]
    assert not {"floor_ppl", "above_source_floor"} & set(result.metrics)


def test_as_many_batches_as_there_are_is_the_whole_split() -> None:
    result = measured(text(n=50, entropy=90.0), Scripted(constant(2.0)), max_batches=4)
    assert result.details["candidate"]["complete"]
    assert number(result, "candidate_word_ppl") == pytest.approx(math.exp(100 / 20))
    assert gate(result, "above_source_floor").value == pytest.approx(10.0)


def test_a_perplexity_beyond_floats_leaves_the_others() -> None:
    """A text without spaces has few words of many tokens: exp(nats / words) overflows, exp(nats /
    tokens) does not.
    """
    result = measured(text(n=500, words=2), Scripted(constant(4.0)), Scripted(constant(4.0)))
    entry = finished(result, 1.0)
    assert entry["metrics"]["candidate_word_ppl"]["value"] is None
    assert entry["metrics"]["candidate_word_ppl"]["reason"]
    assert entry["metrics"]["candidate_ppl"]["value"] == pytest.approx(math.exp(4.0))
    assert [g["passed"] for g in entry["gates"]] == [True, True]


@pytest.mark.parametrize("who", ["model", "baseline"])
def test_a_loss_that_is_not_finite_is_an_error(who: str) -> None:
    good, bad = Scripted(constant(2.0)), Scripted(constant(math.nan))
    with pytest.raises(NotFinite):
        measured(text(), *((bad, good) if who == "model" else (good, bad)))


# the floor of the synthetic source


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=30))
    return load_corpus(config, tmp_path_factory.mktemp("cache"))


def by_the_source(corpus: Corpus, bonus: float = 0.0) -> Predict:
    """The source's own distribution of the next word; `bonus` nats better over the split than it
    can be.
    """
    from tokenizers import Tokenizer

    tokenizer, source = Tokenizer.from_str(corpus.tokenizer_json), SyntheticSource(0)
    each = bonus / len(corpus.splits["test"].tokens)

    def predict(tokens: Tensor) -> Tensor:
        logs = torch.full((*tokens.shape, corpus.vocab_size), -math.inf, dtype=torch.float64)
        for place, row in enumerate(tokens.tolist()):
            words: list[str] = []
            for t, token in enumerate(row):
                words = [] if token == corpus.eos else [*words, tokenizer.id_to_token(token)]
                for word, p in source.distribution(words).items():
                    logs[place, t, tokenizer.token_to_id(word)] = math.log(p) + each
        return logs

    return predict


def peeking(vocab: int) -> Predict:
    """Gives 0.99 to the next token of its input, which it should not see; the input's last position
    has none.
    """

    def predict(tokens: Tensor) -> Tensor:
        p = torch.full((*tokens.shape, vocab), 0.01 / vocab, dtype=torch.float64)
        p[:, :-1] += 0.99 * F.one_hot(tokens[:, 1:], vocab)
        p[:, -1] = 1 / vocab
        return p.log()

    return predict


def whole(corpus: Corpus, *models: Predict) -> BenchResult:
    """Scored in one window, so that nothing a prediction depends on is cut off."""
    told = [Scripted(predict, corpus.vocab_size) for predict in models]
    return measured(corpus, *told, batch=1, seq=len(corpus.splits["test"].tokens))


def test_the_source_s_own_distribution_has_its_floor_and_passes(synthetic: Corpus) -> None:
    result = whole(synthetic, by_the_source(synthetic))
    split = synthetic.splits["test"]
    assert split.entropy_nats is not None
    assert result.details["candidate"]["nats"] == pytest.approx(split.entropy_nats, rel=1e-12)
    assert number(result, "floor_ppl") == pytest.approx(math.exp(split.entropy_nats / split.words))
    assert number(result, "candidate_word_ppl") == pytest.approx(
        number(result, "floor_ppl"), rel=1e-12
    )
    assert number(result, "above_source_floor") == pytest.approx(0.0, abs=1e-6)
    assert gate(result, "above_source_floor").passed is True


@pytest.mark.parametrize(
    ("bonus", "passed"), [(5.0, True), (20.0, True), (21.0, False), (100.0, False)]
)
def test_luck_of_one_in_a_billion_is_a_leak(synthetic: Corpus, bonus: float, passed: bool) -> None:
    """e^-20.7 = 1e-9: nobody is that many nats better than the source by chance."""
    found = gate(whole(synthetic, by_the_source(synthetic, bonus)), "above_source_floor")
    assert found.value == pytest.approx(-bonus, abs=1e-6)
    assert found.passed is passed


@pytest.mark.parametrize("who", ["model", "baseline"])
def test_a_model_that_sees_the_next_token_fails_the_floor(synthetic: Corpus, who: str) -> None:
    honest, leaking = by_the_source(synthetic), peeking(synthetic.vocab_size)
    result = whole(synthetic, *((leaking, honest) if who == "model" else (honest, leaking)))
    role = "candidate" if who == "model" else "baseline"
    assert number(result, f"{role}_word_ppl") < number(result, "floor_ppl")
    assert gate(result, "above_source_floor").passed is False
    assert number(result, "above_source_floor") < -100


def test_a_text_of_unknown_entropy_has_no_floor() -> None:
    assert [g.name for g in measured(text(), Scripted(constant(0.001))).gates] == ["ppl_ratio"]


# the comparison


def test_no_baseline_is_no_verdict_with_a_reason() -> None:
    result = measured(text(), Scripted(constant(2.0)))
    found = gate(result, "ppl_ratio")
    assert (found.passed, found.value) == (None, None)
    assert "bench.ppl.baseline=null" in (found.reason or "")
    assert result.metrics["ppl_ratio"].value is None
    assert "bench.ppl.baseline=null" in (result.metrics["ppl_ratio"].reason or "")
    assert "bench.ppl.baseline=null" in (result.metrics["stage1_ppl"].reason or "")
    assert not [key for key in result.metrics if key.startswith("baseline_")]


def test_the_ratio_passes_at_its_target_and_fails_above_it() -> None:
    candidate, baseline = constant(2.01), constant(2.0)
    result = measured(text(), Scripted(candidate), Scripted(baseline), target=2.0)
    ratio = number(result, "ppl_ratio")
    assert ratio == pytest.approx(math.exp(0.01))
    assert ratio == pytest.approx(number(result, "candidate_ppl") / number(result, "baseline_ppl"))
    assert gate(result, "ppl_ratio").limit == 2.0
    assert number(result, "ppl_diff_pct") == pytest.approx(100 * (math.exp(0.01) - 1))
    assert number(result, "stage1_ppl") == pytest.approx(math.exp(2.0))
    for target, passed in (
        (ratio, True),
        (math.nextafter(ratio, 0.0), False),
        (1.02, True),
        (1.005, False),
    ):
        found = gate(
            measured(text(), Scripted(candidate), Scripted(baseline), target=target), "ppl_ratio"
        )
        assert (found.passed, found.value) == (passed, ratio)


def test_both_models_are_scored_on_the_same_tokens() -> None:
    one, other = Scripted(constant(2.0)), Scripted(constant(3.0))
    measured(text(), one, other)
    assert torch.equal(torch.cat(one.scored), torch.cat(other.scored))


@pytest.mark.parametrize(("ours", "passed"), [(90, True), (105, True), (106, False), (300, False)])
def test_more_than_five_percent_more_parameters_fail(ours: int, passed: bool) -> None:
    result = measured(
        text(), Scripted(constant(2.0), parameters=ours), Scripted(constant(2.0), parameters=100)
    )
    assert number(result, "candidate_parameters") == ours
    found = gate(result, "parameter_ratio")
    assert (found.passed, found.value) == (passed, ours / 100)
    assert bool(result.notices) == (ours < 95)


def test_the_specification_s_keys_are_those_of_the_named_models() -> None:
    one, two = Scripted(constant(2.0)), Scripted(constant(3.0))
    bench = Bench(text(), {"model": one, "bench.ppl.baseline": two}, Config(model=TINY))
    config = PplConfig(batch=2, seq=8, precision="fp32", baseline=ModelConfig(name="stage2"))
    result = ppl.run(bench, config)  # type: ignore[arg-type]
    assert number(result, "stage1_ppl") == pytest.approx(math.exp(2.0))
    assert number(result, "stage2_ppl") == pytest.approx(math.exp(3.0))


def test_the_training_split_has_no_floor(synthetic: Corpus) -> None:
    """A model may know the text that it was trained on better than the source does."""
    model = Scripted(by_the_source(synthetic, bonus=100.0), synthetic.vocab_size)
    one_window = {"split": "train", "batch": 1, "seq": len(synthetic.splits["train"].tokens)}
    assert [g.name for g in measured(synthetic, model, **one_window).gates] == ["ppl_ratio"]


# a reference, several seeds


class Seeded:
    """Models that know the perplexity of each seed: nats[role][seed]."""

    def __init__(
        self, nats: dict[str, list[float]], corpus: Corpus | None = None, **config: Any
    ) -> None:
        keys = {role: f"bench.ppl.{role}" for role in nats} | {"candidate": "model"}
        self.nats = {keys[role]: values for role, values in nats.items()}
        self.corpus, self.config, self.device = corpus or text(), Config(**config), CPU
        self.asked: list[tuple[str, int]] = []

    def trained(self, config: ModelConfig, key: str, seed: int | None = None) -> Trained:
        assert seed is not None
        self.asked.append((key, seed))
        return Trained(Scripted(constant(self.nats[key][seed])), {"origin": "given", "of": seed})

    def corpus_of(self, model: ModelConfig) -> Corpus:
        return self.corpus


def over_seeds(nats: dict[str, list[float]], **changes: Any) -> tuple[BenchResult, Seeded]:
    values: dict[str, Any] = {
        "batch": 2,
        "seq": 8,
        "precision": "fp32",
        "seeds": [0, 1, 2],
    } | changes
    others = {role: TINY for role in ("baseline", "reference") if role in nats}
    bench = Seeded(nats)
    return ppl.run(bench, PplConfig(**others, **values)), bench  # type: ignore[arg-type]


def test_over_seeds_the_mean_is_reported_and_the_ratio_s_interval() -> None:
    two, one = [2.00, 2.02, 1.98], [2.11, 2.12, 2.07]
    result, bench = over_seeds({"candidate": two, "baseline": one})
    logs = [a - b for a, b in zip(two, one, strict=True)]
    mean, sd = statistics.fmean(logs), statistics.stdev(logs)
    half = 4.302652729911275 * sd / 3**0.5  # Student's t, two degrees of freedom
    assert number(result, "candidate_ppl") == pytest.approx(statistics.fmean(map(math.exp, two)))
    assert number(result, "candidate_ppl_sd") == pytest.approx(
        statistics.stdev(map(math.exp, two)), rel=1e-6
    )
    assert number(result, "candidate_seeds") == 3
    assert number(result, "ppl_ratio") == pytest.approx(math.exp(mean))
    assert number(result, "ppl_ratio_low") == pytest.approx(math.exp(mean - half))
    assert number(result, "ppl_ratio_high") == pytest.approx(math.exp(mean + half))
    assert number(result, "stage2_ppl") == number(result, "candidate_ppl")
    assert number(result, "stage1_ppl") == number(result, "baseline_ppl")
    rows = result.details["baseline"]["seeds"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert [row["ppl"] for row in rows] == pytest.approx([math.exp(x) for x in one])
    assert [row["weights"]["of"] for row in rows] == [0, 1, 2]
    assert any("3 seeds are few" in notice and "t = 4.30" in notice for notice in result.notices)
    assert bench.asked == [
        (key, seed) for seed in range(3) for key in ("model", "bench.ppl.baseline")
    ]


def test_pairs_cancel_what_the_seeds_share() -> None:
    shared = [2.0, 2.5, 3.0]
    result, _ = over_seeds({"candidate": shared, "baseline": [x + 0.1 for x in shared]})
    assert number(result, "ppl_ratio_high") == pytest.approx(math.exp(-0.1), rel=1e-6)
    assert number(result, "candidate_ppl_sd") > 5


@pytest.mark.parametrize(("target", "passed"), [(0.93, True), (0.92, False)])
def test_the_gate_on_the_interval_s_upper_end(target: float, passed: bool) -> None:
    nats = {"candidate": [2.00, 2.02, 1.98], "baseline": [2.11, 2.12, 2.07]}
    result, _ = over_seeds(nats, upper_target=target)
    found = gate(result, "ppl_ratio_high")
    assert (found.passed, found.value) == (passed, number(result, "ppl_ratio_high"))


@pytest.mark.parametrize("changes", [{"seeds": [0]}, {"seeds": None}])
def test_one_seed_has_no_interval(changes: dict[str, Any]) -> None:
    result, _ = over_seeds({"candidate": [2.0], "baseline": [2.1]}, upper_target=0.95, **changes)
    found = gate(result, "ppl_ratio_high")
    assert (found.passed, found.value) == (None, None)
    assert "one seed" in (found.reason or "")
    assert not {"ppl_ratio_high", "candidate_ppl_sd"} & set(result.metrics)


@pytest.mark.parametrize(("reference", "passed"), [(2.1, True), (2.0, True), (1.99, False)])
def test_the_model_against_the_reference(reference: float, passed: bool) -> None:
    result, _ = over_seeds(
        {"candidate": [2.0], "baseline": [2.2], "reference": [reference]}, seeds=None
    )
    found = gate(result, "reference_ratio")
    assert (found.passed, found.value) == (passed, pytest.approx(math.exp(2.0 - reference)))
    assert number(result, "reference_ppl") == pytest.approx(math.exp(reference))
    assert gate(result, "reference_parameter_ratio").passed is True
    assert number(result, "reference_parameters") == 100


def test_without_a_reference_there_is_no_gate_on_it() -> None:
    result, _ = over_seeds({"candidate": [2.0], "baseline": [2.2]}, seeds=None)
    assert [g.name for g in result.gates] == ["ppl_ratio", "parameter_ratio"]


@pytest.mark.parametrize(("limit", "passed"), [(7.5, True), (7.0, False)])
def test_the_gate_on_the_model_s_own_perplexity(limit: float, passed: bool) -> None:
    result, _ = over_seeds({"candidate": [2.0]}, seeds=None, max_ppl=limit)
    found = gate(result, "candidate_ppl")
    assert (found.passed, found.value) == (passed, pytest.approx(math.exp(2.0)))


def test_the_leak_test_judges_every_model() -> None:
    result, _ = over_seeds({"candidate": [2.0], "baseline": [2.2]}, seeds=None, leak_test=True)
    assert (gate(result, "leak").passed, gate(result, "leak").value) == (True, 0.0)
    leaking = Scripted(constant(2.0))
    leaking.norm.register_forward_hook(lambda _m, _i, z: z + z.mean(1, keepdim=True))
    found = gate(measured(text(), Scripted(constant(2.0)), leaking, leak_test=True), "leak")
    assert found.passed is False
    assert found.value
    assert found.value > 1e-3


def test_seeds_beside_given_weights_are_refused() -> None:
    bench = Seeded({}, model=ModelConfig(checkpoint="w.safetensors"))
    with pytest.raises(ConfigError, match=r"bench\.ppl\.seeds=\[0, 1\].*model\.checkpoint"):
        ppl.check(bench, PplConfig(seeds=[0, 1]))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="twice"):
        PplConfig(seeds=[1, 1])


# evidence


def test_kind_1_two_tokens_scored() -> None:
    result = measured(text(n=2), Scripted(constant(2.0)), Scripted(constant(2.1)))
    found = gate(result, "ppl_ratio")
    assert (found.passed, found.reason) == (None, "tokens scored: 2, needed 10")
    assert number(result, "ppl_ratio") < 1


def test_kind_1_weights_that_no_training_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ppl, "weight_change", lambda *_: 1e-9)
    result = measured(text(), Scripted(constant(2.0)), Scripted(constant(2.1)), max_ppl=1e9)
    for name in ("ppl_ratio", "candidate_ppl"):
        assert gate(result, name).passed is None
        assert "change of the weights by training" in (gate(result, name).reason or "")
