"""What can be set: schema, checks, help.

Hydra composes the YAML files of ``conf/`` onto these dataclasses, whose fields carry their
description and checks; `to_config` turns the composed tree into them. Imports neither torch nor
hydra, so that ``--help`` and ``--cfg job`` answer at once.
"""

from phasebench.config.benches import (
    ARMS,
    BENCH_SCHEMAS,
    BENCHES,
    FINDABLE,
    GPUS,
    TRAINING,
    BudgetConfig,
    EnergyConfig,
    GradConfig,
    PplConfig,
    SpeedConfig,
    VramConfig,
)
from phasebench.config.fields import ConfigError
from phasebench.config.model import (
    GRADIENTS,
    INTEGRATORS,
    MODELS,
    POTENTIALS,
    RECOMPUTE,
    DropoutConfig,
    KoopmanConfig,
    MeraConfig,
    ModelConfig,
    OdeConfig,
    TrainedOdeConfig,
)
from phasebench.config.run import TRACKERS, Config, RunOptions
from phasebench.config.scoring import ScoringConfig, SplitConfig
from phasebench.config.stage3_benches import KoopmanBenchConfig, PartsConfig, RecallConfig
from phasebench.config.training import (
    DATASETS,
    DataConfig,
    Decay,
    DialecticConfig,
    EntropicConfig,
    SyntheticConfig,
    TrainConfig,
)
from phasebench.config.validation import build, keys_at, nearest, to_config

__all__ = [
    "ARMS",
    "BENCHES",
    "BENCH_SCHEMAS",
    "DATASETS",
    "FINDABLE",
    "GPUS",
    "GRADIENTS",
    "INTEGRATORS",
    "MODELS",
    "POTENTIALS",
    "RECOMPUTE",
    "TRACKERS",
    "TRAINING",
    "BudgetConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "Decay",
    "DialecticConfig",
    "DropoutConfig",
    "EnergyConfig",
    "EntropicConfig",
    "GradConfig",
    "KoopmanBenchConfig",
    "KoopmanConfig",
    "MeraConfig",
    "ModelConfig",
    "OdeConfig",
    "PartsConfig",
    "PplConfig",
    "RecallConfig",
    "RunOptions",
    "ScoringConfig",
    "SpeedConfig",
    "SplitConfig",
    "SyntheticConfig",
    "TrainConfig",
    "TrainedOdeConfig",
    "VramConfig",
    "build",
    "keys_at",
    "nearest",
    "to_config",
]
