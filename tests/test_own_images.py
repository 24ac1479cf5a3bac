"""Own pictures at the door of a run: what fits is used, the rest is refused before any work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from snnlib.data import ImageSet
from snnlib.experiments import run_experiment
from snnlib.ff_presets import FF_PRESETS
from snnlib.own_images import fitting
from snnlib.presets import PRESETS

SMALL = {"epochs": 1, "batch_size": 8, "n_steps": 2, "device": "cpu"}
RUNS = {
    "fc": replace(PRESETS["fc"], limit=None, test_limit=None, **SMALL),
    "csnn": replace(PRESETS["csnn-16"], channels=2, limit=None, test_limit=None, **SMALL),
    "post protocol": replace(PRESETS["csnn-16"], protocol="post", channels=2, **SMALL),
    "forward-forward": replace(
        FF_PRESETS["ff-goodness-10"], epochs=1, batch_size=8, n_steps=2, hidden=(5,),
        n_training=None, n_validation=6, device="cpu",
    ),
    "a row of the fourth post": replace(
        next(c for c in FF_PRESETS.values() if hasattr(c, "n_updates")),
        n_updates=1, n_training=8, n_steps=2, device="cpu",
    ),
}  # fmt: skip


def images(n=70, shape=(1, 28, 28)):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def bare(pictures, labels=None, source="own"):
    """An ImageSet whatever it holds, as if its own checks had let it pass."""
    given = object.__new__(ImageSet)
    labels = torch.arange(len(pictures)) % 10 if labels is None else labels
    for name, value in (("images", pictures), ("labels", labels), ("source", source)):
        object.__setattr__(given, name, value)
    return given


GOOD = bare(images())
NOT_FINITE = images()
NOT_FINITE[3, 0, 5, 5] = torch.nan

BAD = {
    "another size": (bare(images(shape=(1, 32, 32))), r"\[70, 1, 32, 32\]; .*interpolate"),
    "colour": (bare(images(shape=(3, 28, 28))), r"\[70, 3, 28, 28\]; \.mean"),
    "no channel": (bare(images(shape=(28, 28))), r"\[70, 28, 28\]; \.unsqueeze"),
    "flat": (bare(images(shape=(784,))), r"\[70, 784\]"),
    "whole numbers": (bare((images() * 255).to(torch.uint8)), "uint8 .*divide by 255"),
    "not a number": (bare(NOT_FINITE), "NaN"),
    "an eleventh class": (bare(images(), torch.arange(70) % 11), "labels must lie in 0..9"),
    "labels as floats": (bare(images(), torch.zeros(70)), "labels must be whole numbers"),
    "fewer labels": (bare(images(), torch.arange(9)), r"labels must be of shape \[70\]"),
    "no source": (bare(images(), source=""), "source must be a few words"),
    "only 'test set'": (bare(images(), source=" test set"), "source must be a few words"),
    "nothing": (bare(images(0)), "must hold at least"),
    "no ImageSet": ((images(), torch.zeros(70)), "must be an ImageSet"),
}


@pytest.mark.parametrize("which", ["training_images", "test_images"])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("fault", BAD)
def test_pictures_that_do_not_fit_are_refused_by_every_run_before_it_begins(fault, run, which):
    def begun(epoch):
        raise AssertionError("an epoch was trained")

    given = {"training_images": GOOD, "test_images": GOOD, which: BAD[fault][0]}
    with pytest.raises(ValueError, match=f"^{which}.*{BAD[fault][1]}"):
        run_experiment(RUNS[run], on_epoch_end=begun, **given)


@pytest.mark.parametrize("run", RUNS)
def test_what_is_exact_in_float32_is_taken(run):
    exact = bare(GOOD.images.double().numpy(), (np.arange(70) % 10).astype(np.int16))
    record = run_experiment(RUNS[run], training_images=exact, test_images=exact)
    plain = run_experiment(RUNS[run], training_images=GOOD, test_images=GOOD)
    assert record.result == plain.result


@pytest.mark.parametrize(("run", "least"), [("csnn", 6), ("forward-forward", 7)])
def test_a_run_that_splits_off_validation_images_needs_enough(run, least):
    few = bare(images(least - 1))
    with pytest.raises(ValueError, match=f"training_images must hold at least {least} images"):
        run_experiment(RUNS[run], training_images=few, test_images=GOOD)
    whole = replace(RUNS["forward-forward"], n_training=65)
    with pytest.raises(ValueError, match="training_images must hold at least 71 images"):
        run_experiment(whole, training_images=GOOD, test_images=GOOD)


def test_grey_values_are_asked_for_where_they_are_probabilities():
    bright = bare(2 * images())
    assert fitting("x", bright, grey=False) is not None
    with pytest.raises(ValueError, match=r"x.images must be grey values in \[0, 1\]"):
        fitting("x", bright, grey=True)
    assert fitting("x", None, grey=True) is None
