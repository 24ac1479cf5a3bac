"""Forward-Forward weights that a run kept, read back: the network, and what it predicts."""

from dataclasses import fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnlib.forward_forward.rules import RULES
from snnlib.posts.fourth import PORTION, PostNetwork, predict_post
from snnlib.records.record import RunRecord
from snnlib.settings.ff_experiment import FFConfig, PostConfig


def settings_of(record: RunRecord) -> FFConfig | PostConfig:
    """The settings of a recorded Forward-Forward run, to be run on the CPU."""
    kind: Any = PostConfig if "n_updates" in record.settings else FFConfig
    names = {field.name for field in fields(kind)}
    stored = {name: value for name, value in record.settings.items() if name in names}
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    return cast(FFConfig | PostConfig, replace(kind(**plain), device="cpu"))


def build(record: RunRecord) -> nn.Module:
    """The network of a recorded run, with fresh weights, in evaluation mode."""
    config = settings_of(record)
    with torch.random.fork_rng(devices=[]):
        if isinstance(config, PostConfig):
            return PostNetwork(config).eval()
        noise = torch.Generator().manual_seed(config.seed + 1)
        return RULES[config.rule].build(config, noise).eval()


def predict_images(network: nn.Module, record: RunRecord, images: Tensor) -> Tensor:
    """Predict as the run did when it looked at the test images: ``[N, 1, 28, 28]`` to ``[N]``.

    The way to answer is the one that the record names. Where nothing is drawn at random
    while it answers, and in rows of the fourth post that were run on a CPU, the
    predictions of the same test images are those that were recorded.
    """
    config = settings_of(record)
    generator = torch.Generator().manual_seed(config.seed + 1)
    if isinstance(config, PostConfig):
        _as_after_training(record, generator, len(config.widths) - 1)
        parts = [predict_post(cast(PostNetwork, network), p, generator) for p in _cut(images)]
        return torch.cat(parts)
    way, answers = record.extra["judged_by"], RULES[config.rule].predict
    return torch.cat([answers(network, part, config, generator)[way] for part in _cut(images)])


def _cut(images: Tensor) -> tuple[Tensor, ...]:
    return images.split(PORTION)


def _as_after_training(record: RunRecord, generator: torch.Generator, n_layers: int) -> None:
    """Draw what the run had drawn before it came to the test images: a seed per layer and part."""
    looked_at = (int(record.extra["n_training_looked_at"]), 64)
    for _ in range(n_layers * sum(-(-n // PORTION) for n in looked_at)):
        torch.randint(2**31, (), generator=generator)
