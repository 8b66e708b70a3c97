"""Layers on complex states, stored as real tensors whose last axis is [Re | Im]."""

from phasebench.nn.attention import CausalAttention, rotary_phases
from phasebench.nn.layers import ComplexDropout, ComplexEmbedding, ComplexLinear, ComplexNorm, LockedDropout, ModReLU
from phasebench.nn.loss import linear_cross_entropy
from phasebench.nn.recompute import recomputed
from phasebench.nn.tied import Deferred

__all__ = [
    "CausalAttention",
    "ComplexDropout",
    "ComplexEmbedding",
    "ComplexLinear",
    "ComplexNorm",
    "Deferred",
    "LockedDropout",
    "ModReLU",
    "linear_cross_entropy",
    "recomputed",
    "rotary_phases",
]
