"""A causal language model of the package transformers, with the weights of its folder or fresh."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.config import ConfigError, Decay, ModelConfig
from phasebench.data import hub
from phasebench.data.batches import IGNORED
from phasebench.models.language_model import LanguageModel
from phasebench.models.layers import Past
from phasebench.models.objective import PLAIN, Objective

SETTINGS = "config.json"
_FILES = [SETTINGS, "tokenizer.json", "tokenizer_config.json", "*.safetensors"]


class HuggingFaceModel(LanguageModel):
    """Tokens -> logits by a model of transformers (Llama, GPT-2, ...) with fresh weights.

    Of config.architecture, with vocab_size types.
    Logits are what the library's model returns, whatever its head does. Attributes: `body`, that
    model; `positions`, the most tokens of a sequence, or None.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, body: nn.Module | None = None) -> None:
        super().__init__()
        if body is None:
            library, settings, _ = opened(config, "model")
            if config.architecture:
                settings.vocab_size = vocab_size
            body = library.AutoModelForCausalLM.from_config(settings)
        self.body: Any = body
        self.positions = getattr(self.body.config, "max_position_embeddings", None)

    @classmethod
    def pretrained(cls, config: ModelConfig, key: str) -> HuggingFaceModel:
        """Return the model with the folder's weights in float32; raises what `opened` raises."""
        library, _, folder = opened(config, key)
        try:
            body = library.AutoModelForCausalLM.from_pretrained(
                folder, dtype="float32", use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise _unusable(config, key, f"its weights cannot be read: {error}") from error
        return cls(config, 0, body)

    @property
    def head(self) -> nn.Parameter:
        return self.body.get_output_embeddings().weight

    def parameter_counts(self) -> dict[str, int]:
        tables = {self.head, self.body.get_input_embeddings().weight}  # one, where they are tied
        total = sum(p.numel() for p in self.parameters())
        return {"total": total, "blocks": total - sum(table.numel() for table in tables)}

    def decay(self, name: str, parameter: nn.Parameter) -> Decay | None:
        """Name the recipe's decay: of tables, of other matrices; the rest has none."""
        if parameter.ndim < 2:
            return None
        tables = self.head, self.body.get_input_embeddings().weight
        return "embedding_decay" if any(parameter is one for one in tables) else "weight_decay"

    def compile_training(self) -> None:
        """Nothing: the body is the library's."""

    def through(
        self, z: Float[Tensor, "B T D"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the last hidden states; the body has nothing to spare."""
        return continued(self.body.base_model, past, inputs_embeds=z).last_hidden_state

    def states(
        self, tokens: Int[Tensor, "B T"], past: Past | None = None
    ) -> Float[Tensor, "B T D"]:
        return self.through(self.body.get_input_embeddings()(tokens), sparing=False, past=past)

    def forward(
        self, tokens: Int[Tensor, "B T"], past: Past | None = None
    ) -> Float[Tensor, "B T V"]:
        return continued(self.body, past, input_ids=tokens).logits

    def loss(
        self,
        tokens: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        chunk: int | None,
        objective: Objective = PLAIN,
    ) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        """Summed cross-entropy in nats and the number of scored targets, by the plain objective.

        The logits of whole sequences exist at one time, of as many as `chunk` tokens hold, or one.
        """
        rows = max(1, (chunk or tokens.numel()) // tokens.shape[1])
        parts = zip(tokens.split(rows), targets.split(rows), strict=True)
        losses = [
            F.cross_entropy(
                self(part).float().flatten(0, 1),
                wanted.flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            )
            for part, wanted in parts
        ]
        return sum(losses[1:], losses[0]), (targets != IGNORED).sum()


def continued(body: nn.Module, past: Past | None, **inputs: Tensor) -> Any:
    """Call a model of the library; with a past, on the tokens that follow it."""
    if past is None:
        return body(**inputs, use_cache=False)
    out = body(**inputs, use_cache=True, past_key_values=past.get("cache"))
    past["cache"] = out.past_key_values
    return out


def opened(config: ModelConfig, key: str) -> tuple[ModuleType, Any, Path]:
    """Return transformers, the model's settings and its folder, which config names.

    Raises `ConfigError` for `key` where the package is missing, and for a folder, or a repository
    of the hub, that is missing, is no causal language model, or has no fast tokenizer.
    """
    library = require_transformers(key, "hf")
    place, name = _named(config, key)
    if name is None:
        problem = "model=hf takes its weights from a folder, or from a repository of the hub"
        fix = f"{place}=FOLDER_OR_ID, or to train it {key}.architecture=FOLDER_OR_ID"
        raise ConfigError(place, None, problem, fix)
    folder = hub.model_folder(name, place, [SETTINGS] if config.architecture else _FILES)
    try:
        settings = library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unusable(config, key, f"config.json cannot be read: {error}") from error
    names = import_module("transformers.models.auto.modeling_auto")
    known = names.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(settings.model_type)
    if known is None or known not in (settings.architectures or [known]):
        what = ", ".join(settings.architectures or [settings.model_type])
        raise _unusable(config, key, f"is no causal language model, but {what}")
    return library, settings, folder


def require_transformers(key: str, name: str) -> ModuleType:
    """Import transformers. Raises `ConfigError` for `key`=`name` where it is not installed."""
    try:  # by name: the type checker would spend half of its time on the package's own types
        library = import_module("transformers")
        library.utils.logging.disable_progress_bar()
        return library
    except ImportError as error:
        problem = f"needs the package transformers, which cannot be imported ({error})"
        raise ConfigError(key, name, problem, "pip install 'phasebench[gpt]'") from error


def _named(config: ModelConfig, key: str) -> tuple[str, str | None]:
    """Return the key that names the folder, and the name."""
    what = "architecture" if config.architecture else "checkpoint"
    return f"{key}.{what}", config.architecture or config.checkpoint


def _unusable(config: ModelConfig, key: str, problem: str) -> ConfigError:
    fix = "a folder that save_pretrained of a causal language model and its tokenizer wrote"
    return ConfigError(*_named(config, key), problem, fix)
