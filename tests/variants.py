"""Models by a name for tests: those of the configuration, and Stage 2 in learned coordinates."""

from __future__ import annotations

from phasebench.config import MODELS, KoopmanConfig, MeraConfig

LEARNED = "stage2-learned"
STAGES = ("stage1", "stage2", LEARNED, "stage3")
VARIANTS = (*STAGES, "gpt", "momentum")


def variant(name: str) -> dict[str, object]:
    """The keys of `ModelConfig` that make it; Stage 3 with a memory and a pyramid."""
    if name == "stage3":
        mera = MeraConfig(mode="beside", heads=2)
        return {"name": name, "koopman": KoopmanConfig("damped", 16), "mera": mera}
    return {"name": "stage2", "coordinates": "learned"} if name == LEARNED else {"name": name}


OF_A_FOLDER = ("hf",)  # models that nothing makes but their files
MADE = tuple(name for name in MODELS if name not in OF_A_FOLDER)
