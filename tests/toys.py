"""Toy images and small Forward-Forward runs, shared by several files of tests."""

from dataclasses import replace

import torch

from snnlib.data import ImageSet
from snnlib.settings.ff_experiment import FFConfig
from snnlib.settings.ff_presets import POST_PRESETS

TINY = FFConfig(
    "tiny",
    "toy?",
    hidden=(50, 50),
    n_steps=4,
    epochs=6,
    lr=3e-3,
    batch_size=20,
    n_validation=100,
    shift_pixels=0,
)
TOY_ROW = replace(POST_PRESETS["ff-8"], widths=(784, 30, 10), n_steps=5, n_updates=5)
SMALL = {
    "goodness": {},
    "relu": {
        "activation": "relu",
        "input_rms": 4.0,
        "theta": 2.0,
        "loss_slope": 1.0,
        "goodness_gain": 1.0,
    },
    "poisson": {"encoding": "poisson", "n_steps": 8},
    "every": {"negatives": "every"},
    "two-pass": {"rule": "two-pass"},
    "neutral-head": {"rule": "neutral-head"},
    "bptt": {"rule": "bptt"},
    "soft": {"reset": "subtract"},
    "class-wise": {"rule": "class-wise", "hidden": (10, 20), "dense": (50,), "kernel": 3},
    "class-wise dense": {"rule": "class-wise", "hidden": (), "dense": (50, 30)},
    "class-wise local": {
        **{"rule": "class-wise", "hidden": (), "dense": (90, 30)},
        "receptive_field": 10,
    },
}


def toy_images(n: int, seed: int) -> ImageSet:
    """Ten classes, each one bright row on dim noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    images = 0.2 * torch.rand(n, 1, 28, 28, generator=generator)
    images[torch.arange(n), 0, 4 + 2 * labels] += 0.7
    return ImageSet(images, labels, "toy test set")


def small(name: str, **changes) -> FFConfig:
    return replace(TINY, **{**SMALL[name], **changes})
