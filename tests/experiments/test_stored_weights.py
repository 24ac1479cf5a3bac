"""Stored weights are read back as networks that answer; what is none is refused."""

import numpy as np
import pytest
import torch
from toys import toy_images

from snnlib.data import load_mnist
from snnlib.experiments.stored_weights import (
    load_stored,
    predict_stored,
    rates_stored,
    stored_presets,
)
from snnlib.records.checkpoints import load_weights, save_checkpoint, save_weights


def test_a_loaded_network_answers_as_any_other():
    network, record = load_stored("fc")
    assert not network.training
    spikes = network((torch.rand(5, 2, 1, 28, 28) < 0.5).float())
    assert spikes.shape == (5, 2, 10)
    assert record.settings["network"] == "fc"


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean csnn-16"):
        load_stored("csnn-61")


def test_a_folder_without_weights_is_told_and_so_is_a_file_without_a_record(tmp_path):
    with pytest.raises(ValueError, match="folder must be one that holds weights"):
        load_stored("fc", folder=tmp_path / "typo")
    save_weights(tmp_path / "mine.safetensors", {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"mine\.safetensors names no record of a run"):
        load_stored("mine", folder=tmp_path)


def test_other_things_than_a_network_and_its_record_are_refused():
    network, record = load_stored("fc")
    images = toy_images(2, 1).images
    with pytest.raises(ValueError, match="record must be RunRecord"):
        predict_stored(network, record.to_dict(), images)
    for ask in (predict_stored, rates_stored):
        with pytest.raises(ValueError, match="network must be Module"):
            ask(network.state_dict(), record, images)
        with pytest.raises(ValueError, match=r"images must be \[N, 1, 28, 28\]"):
            ask(network, record, images[:, 0])


@pytest.mark.parametrize("preset", stored_presets())
def test_rates_are_spikes_per_step_and_the_highest_is_the_prediction(preset):
    network, record = load_stored(preset)
    images = load_mnist(train=False, limit=60).images
    rates = rates_stored(network, record, images)
    assert rates.shape == (60, 10)
    assert torch.equal(predict_stored(network, record, images), rates.argmax(1))
    assert 0 <= rates.min() < rates.max() <= 1
    assert rates_stored(network, record, images[:0]).shape == (0, 10)


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(3), object()])
def test_a_checkpoint_that_could_not_be_read_back_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=r"state\['deep'\]\[0\] must be a tensor or a plain"):
        save_checkpoint(tmp_path / "mine.ckpt", {"deep": [value]})
    assert not list(tmp_path.iterdir())


def test_weights_may_be_arrays_and_a_network_is_told_where_its_own_are(tmp_path):
    save_weights(tmp_path / "a.safetensors", {"a": np.arange(3.0)})
    assert torch.equal(load_weights(tmp_path / "a.safetensors")[0]["a"], torch.arange(3.0).double())
    with pytest.raises(ValueError, match=r"network.state_dict\(\) is one"):
        save_weights(tmp_path / "b.safetensors", torch.nn.Linear(1, 1))
