"""Stage 3: Stage 2's block whose attention reads a memory, and a pyramid beside or instead of it.

With all parts off it is Stage 2, bit for bit. docs/stage3.md has the formulas.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from phasebench.config import ModelConfig
from phasebench.models.koopman import KoopmanMemory
from phasebench.models.language_model import ComplexLanguageModel
from phasebench.models.layers import Past, within
from phasebench.models.mera import Pyramid
from phasebench.models.stage2 import Stage2Block


class Stage3Block(Stage2Block):
    """z += attention(n') + pyramid(n'), n' = memory(norm(z)); then Stage 2's flow.

    Each part is the identity, or adds nothing, until `add_parts` makes it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.memory: KoopmanMemory | None = None
        self.pyramid: Pyramid | None = None

    def add_parts(self, config: ModelConfig, index: int) -> None:
        """Make the parts that the configuration gives to the block of this index."""
        koopman, mera = config.koopman, config.mera
        if koopman.memory != "off":
            unitary = koopman.memory == "unitary"
            self.memory = KoopmanMemory(config.dim, span=koopman.span, unitary=unitary)
        if index in config.mera_blocks:
            self.pyramid = Pyramid(
                config.dim,
                config.mera_channels,
                mera.heads,
                out_gain=self.gain_out,
                unitary=mera.gate == "unitary",
                lagged=mera.disentangle == "lagged",
            )
            if mera.mode == "instead":
                self.attention = None

    def mix_tokens(
        self, n: Float[Tensor, "B T dim2"], past: Past | None
    ) -> Float[Tensor, "B T dim2"]:
        """Return attention and pyramid of what the memory makes of n."""
        if self.memory is not None:
            n = self.memory(n, within(past, "memory"))
        if self.pyramid is None:
            return super().mix_tokens(n, past)
        y = self.pyramid(n, within(past, "pyramid"))
        return y if self.attention is None else y + super().mix_tokens(n, past)


def build_stage3(config: ModelConfig, vocab_size: int) -> ComplexLanguageModel:
    """Make Stage 3; what it shares with Stage 2 starts from the same random numbers."""
    model = ComplexLanguageModel(config, vocab_size, Stage3Block)
    for index, block in enumerate(model.blocks):
        block.add_parts(config, index)  # type: ignore[operator]
    return model
