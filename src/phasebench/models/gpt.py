"""The reference: GPT-2's architecture, from the package transformers, with fresh weights.

Of as many real channels as the complex models (D_real = 2 dim), as many layers as they have blocks,
a perceptron of `hidden` units and a table of `positions` learned positions. Only its body is taken
from there: the tied head, the chunked loss and the dropout around the body are those of the other
models. Dropout rates mean what they mean there:

    embedding  whole rows of the table, before the positions are added
    input      `embd_pdrop`, on the sum of both
    block      `resid_pdrop`, on the output of each attention and each perceptron
    attention  `attn_pdrop`, on the attention's weights
    output     on what the head reads, after the final norm; GPT-2 has none there
    locked     the same mask at all positions, for input, block and output
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from phasebench.config import ConfigError, ModelConfig
from phasebench.models.huggingface import continued, require_transformers
from phasebench.models.language_model import LanguageModel
from phasebench.models.layers import ComplexEmbedding, LockedDropout, Past


class GptLanguageModel(LanguageModel):
    """GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    Raises `ConfigError` where transformers is missing, and for more tokens than there are
    positions.
    """

    TABLES = ("embedding.", "body.wte.", "body.wpe.")

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        drop, width = config.dropout, 2 * config.dim
        self.embedding = ComplexEmbedding(
            vocab_size, config.dim, drop.embedding
        )  # GPT-2's own 0.02, and row dropout
        library = require_transformers("model", "gpt")
        self.body = library.GPT2Model(
            library.GPT2Config(
                vocab_size=1,
                n_positions=config.positions,
                n_embd=width,
                n_layer=config.blocks,
                n_head=config.heads,
                n_inner=config.hidden,
                embd_pdrop=drop.input,
                resid_pdrop=drop.block,
                attn_pdrop=drop.attention,
                activation_function="gelu_pytorch_tanh",  # GPT-2's own function, in one kernel
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        del self.body.wte  # it is given embeddings, never tokens
        self.positions = config.positions
        self.recompute = frozenset(config.recompute) & {"head"}
        self.drop_out = LockedDropout(drop.output) if drop.locked else nn.Dropout(drop.output)
        if drop.locked:
            _lock(self.body)

    def compile_training(self) -> None:
        """Nothing: the body is the library's, which fuses what it can."""

    def through(
        self, z: Float[Tensor, "B T dim2"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return the normalised states that the head reads; the body has nothing to spare."""
        seen = past["cache"].get_seq_length() if past else 0
        if (length := seen + z.shape[1]) > self.positions:
            raise ConfigError(
                "model.positions",
                self.positions,
                f"a sequence has {length} tokens",
                f"model.positions={length}, or shorter sequences",
            )
        return self.drop_out(continued(self.body, past, inputs_embeds=z).last_hidden_state)


def _lock(body: nn.Module) -> None:
    """Replace the dropout of activations, not that of attention's weights, which is a rate only."""
    for module in list(body.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout) and name != "attn_dropout":
                setattr(module, name, LockedDropout(child.p))
