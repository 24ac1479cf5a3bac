"""Forward-Forward weights that a run kept, read back: the network, and what it predicts."""

from dataclasses import fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnlib.experiments.ff_factory import make_ff_network, make_post_network, make_rule
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
    if isinstance(config, PostConfig):
        return make_post_network(config).eval()
    noise = torch.Generator().manual_seed(config.seed + 1)
    return make_ff_network(config, noise).eval()


def predict_images(network: nn.Module, record: RunRecord, images: Tensor) -> Tensor:
    """Predict as the run did when it looked at the test images: ``[N, 1, 28, 28]`` to ``[N]``.

    The way to answer is the one that the record names. Where nothing is drawn at random
    while it answers, and in rows of the fourth post that were run on a CPU, the
    predictions of the same test images are those that were recorded.
    """
    config = settings_of(record)
    generator = torch.Generator().manual_seed(config.seed + 1)
    if isinstance(config, PostConfig):
        parts = [predict_post(cast(PostNetwork, network), p, generator) for p in _cut(images)]
        return torch.cat(parts)
    way, rule = record.extra["judged_by"], make_rule(config)
    return torch.cat([rule.predict(network, part, generator)[way] for part in _cut(images)])


def _cut(images: Tensor) -> tuple[Tensor, ...]:
    return images.split(PORTION)
