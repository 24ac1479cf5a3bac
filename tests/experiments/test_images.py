"""Own pictures at the door of a run: what fits is used, the rest is refused before any work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from snnlib.data import ImageSet
from snnlib.experiments.images import checked_images
from snnlib.experiments.run import run_experiment
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

SMALL = {"epochs": 1, "batch_size": 8, "n_steps": 2, "device": "cpu"}
RUNS = {
    "fc": replace(PRESETS["fc"], limit=None, test_limit=None, **SMALL),
    "csnn": replace(PRESETS["csnn-16"], channels=2, limit=None, test_limit=None, **SMALL),
    "post protocol": replace(PRESETS["csnn-16"], protocol="post", channels=2, **SMALL),
    "forward-forward": replace(
        FF_PRESETS["ff-goodness-10"], epochs=1, batch_size=8, n_steps=2, hidden=(5,),
        n_validation=6, device="cpu",
    ),
    "a row of the fourth post": replace(
        next(c for c in FF_PRESETS.values() if hasattr(c, "n_updates")),
        n_updates=1, n_training=8, n_steps=2, device="cpu",
    ),
}  # fmt: skip


def images(n=70, shape=(1, 28, 28)):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def own(pictures, labels=None, source="own"):
    labels = torch.arange(len(pictures)) % 10 if labels is None else labels
    return ImageSet(pictures, labels, source)


GOOD = own(images())
NOT_FINITE = images()
NOT_FINITE[3, 0, 5, 5] = torch.nan

# Refused when the set is made, whoever uses it.
NO_SET = {
    "another size": (dict(pictures=images(shape=(1, 32, 32))), r"\[70, 1, 32, 32\]; resize"),
    "colour": (dict(pictures=images(shape=(3, 28, 28))), r"\[70, 3, 28, 28\]; .*mean"),
    "no channel": (dict(pictures=images(shape=(28, 28))), r"\[70, 28, 28\]; .*None"),
    "flat": (dict(pictures=images(shape=(784,))), r"\[70, 784\]"),
    "whole numbers": (dict(pictures=(images() * 255).to(torch.uint8)), "uint8 .*divide by 255"),
    "not a number": (dict(pictures=NOT_FINITE), "NaN"),
    "grey values up to 255": (dict(pictures=255 * images()), "divide by 255"),
    "rounded": (dict(pictures=images().double() / 3), "exact in it"),
    "labels as floats": (dict(pictures=images(), labels=torch.zeros(70)), "labels must be whole"),
    "fewer labels": (dict(pictures=images(), labels=torch.arange(9)), "equally many"),
    "no source": (dict(pictures=images(), source=""), "source must be a text"),
}
# Refused at the door of a run.
BAD = {
    "an eleventh class": (own(images(), torch.arange(70) % 11), "labels must lie in 0..9"),
    "only 'test set'": (own(images(), source="my test set"[2:]), "source must be a few words"),
    "nothing": (own(images(0)), "must hold at least"),
    "no ImageSet": ((images(), torch.zeros(70)), "must be an ImageSet"),
}


@pytest.mark.parametrize("fault", NO_SET)
def test_pictures_that_are_none_are_refused_when_the_set_is_made(fault):
    given, message = NO_SET[fault]
    with pytest.raises(ValueError, match=message):
        own(**given)


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
    exact = own(GOOD.images.double().numpy(), (np.arange(70) % 10).astype(np.int16))
    record = run_experiment(RUNS[run], training_images=exact, test_images=exact)
    plain = run_experiment(RUNS[run], training_images=GOOD, test_images=GOOD)
    assert record.result == plain.result


@pytest.mark.parametrize(("run", "least"), [("csnn", 6), ("forward-forward", 7)])
def test_a_run_that_splits_off_validation_images_needs_enough(run, least):
    few = own(images(least - 1))
    with pytest.raises(ValueError, match=f"training_images must hold at least {least} images"):
        run_experiment(RUNS[run], training_images=few, test_images=GOOD)


def test_a_limit_holds_for_own_pictures_too_and_keeps_the_classes_equal():
    labels = torch.tensor([0] * 50 + [1] * 20)
    record = run_experiment(
        replace(RUNS["fc"], limit=20, test_limit=10),
        training_images=own(images(), labels),
        test_images=own(images(), labels),
    )
    assert (record.n_training, record.n_test) == (20, 10)
    assert checked_images("x", own(images(), labels), limit=20).labels.bincount().tolist() == [
        10,
        10,
    ]
    assert len(checked_images("x", GOOD, limit=1000)) == 70


@pytest.mark.parametrize("name", ["csnn", "forward-forward", "a row of the fourth post"])
def test_pictures_that_ask_for_a_gradient_run_as_the_same_ones_that_do_not(name):
    asking = own(images().requires_grad_())
    runs = [
        run_experiment(RUNS[name], training_images=pictures, test_images=GOOD)
        for pictures in (asking, GOOD)
    ]
    assert runs[0].result == runs[1].result
    assert asking.images.grad is None


@pytest.mark.parametrize("config", ["fc", {"name": "fc"}, None])
def test_what_are_no_settings_are_refused_by_name(config):
    with pytest.raises(ValueError, match="config must be ExperimentConfig or FFConfig or PostConf"):
        run_experiment(config)
