"""Stored weights: each is as good as its record says, and nothing else gets in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from snnlib.data import ImageSet, load_mnist
from snnlib.experiments import stored_weights
from snnlib.experiments.engines import make_network
from snnlib.experiments.run import run_experiment
from snnlib.experiments.stored_weights import (
    MAX_BYTES,
    MAX_BYTES_IN_ALL,
    keep_weights,
    load_stored,
    measure,
    predict_stored,
    rates_stored,
    stored_presets,
    tolerance,
)
from snnlib.metrics import EpochMetrics
from snnlib.records.checkpoints import load_weights, save_checkpoint, save_weights
from snnlib.records.ledger import append_record, read_ledger
from snnlib.settings.presets import PRESETS

STORED = stored_presets()


@pytest.fixture(scope="module")
def test_images():
    return load_mnist(train=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run of seconds: its ledger, its weights, its record."""
    folder = tmp_path_factory.mktemp("tiny")
    config = PRESETS["fc"].but(
        "fc", "Tiny?", n_steps=10, epochs=2, limit=1500, test_limit=1000, lr=1e-2, device="cpu"
    )
    record = run_experiment(config, weights=folder / "w.safetensors")
    append_record(record, folder / "ledger.jsonl")
    return folder, record


@pytest.fixture
def places(tiny, tmp_path):
    images = load_mnist(train=False, limit=1000)
    return {"folder": tmp_path, "ledger": tiny[0] / "ledger.jsonl", "test_images": images}


@pytest.mark.parametrize("preset", STORED)
def test_stored_weights_repeat_their_record_on_all_test_images(preset, test_images):
    network, record = load_stored(preset)
    again = measure(network, record, test_images)
    assert record.preset == preset
    assert again.n_images == record.result.n_images == 10_000
    assert abs(again.accuracy - record.result.accuracy) <= tolerance(record)


def test_stored_weights_are_halves_and_few_bytes():
    assert {"fc", "csnn-16"} <= set(STORED)
    sizes = [path.stat().st_size for path in STORED.values()]
    assert max(sizes) <= MAX_BYTES
    assert sum(sizes) <= MAX_BYTES_IN_ALL
    for path in STORED.values():
        with safe_open(path, framework="pt") as stored:
            kinds = {stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118
        assert kinds <= {torch.float16, torch.int64}


def test_a_loaded_network_answers_as_any_other():
    network, record = load_stored("fc")
    assert not network.training
    spikes = network((torch.rand(5, 2, 1, 28, 28) < 0.5).float())
    assert spikes.shape == (5, 2, 10)
    assert record.settings["network"] == "fc"


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean csnn-16"):
        load_stored("csnn-61")


def test_weights_as_good_as_their_record_are_kept_in_half_the_bytes(tiny, places):
    folder, record = tiny
    path, kept = keep_weights(folder / "w.safetensors", **places)
    weights, named = load_weights(path)
    assert (path.name, named) == ("fc.safetensors", record.id)
    assert kept.n_images == 1000
    whole, _ = load_weights(folder / "w.safetensors")
    # Eleven bits of mantissa; below 2^-14 steps of 2^-24.
    torch.testing.assert_close(
        weights["layers.1.weight"], whole["layers.1.weight"], rtol=2**-11, atol=2**-25
    )
    with pytest.raises(ValueError, match="kept already"):
        keep_weights(folder / "w.safetensors", **places)
    keep_weights(folder / "w.safetensors", **places, overwrite=True)


def refused(places, match, source, record_id=""):
    with pytest.raises(ValueError, match=match):
        keep_weights(source, record_id, **places)
    assert stored_presets(places["folder"]) == {}


def test_weights_of_another_run_are_refused(tiny, places, tmp_path):
    folder, record = tiny
    other = make_network(PRESETS["fc"].but("fc", "?", weight_std=1e-6)).state_dict()
    source = folder / "other.safetensors"
    save_weights(source, other, record_id=record.id)
    refused(places, "these weights reach 10.00%", source)  # silent neurons answer 0: one in ten


def test_weights_that_float16_changes_are_refused(tiny):
    _, record = tiny
    n = record.result.n_correct
    quarter = int(1000 * (record.result.high - record.result.low) / 8)  # of the half width
    whole = EpochMetrics(0.1, n, 1000, 1.0)
    check = stored_weights._check_accuracy
    check(record, whole, EpochMetrics(0.1, n - quarter, 1000, 1.0))
    with pytest.raises(ValueError, match="float16 moves the accuracy"):
        check(record, whole, EpochMetrics(0.1, n - quarter - 1, 1000, 1.0))


def test_the_tolerance_follows_the_interval_and_the_noise(tiny):
    _, record = tiny
    half_width = (record.result.high - record.result.low) / 2
    constant = replace(record, settings={**record.settings, "encoding": "constant"})
    assert tolerance(record) == pytest.approx(half_width)
    assert tolerance(constant) == pytest.approx(half_width / 4)


def test_a_file_without_or_with_another_record_is_refused(tiny, places):
    folder, record = tiny
    weights, _ = load_weights(folder / "w.safetensors")
    save_weights(folder / "nameless.safetensors", weights)
    refused(places, "names no record", folder / "nameless.safetensors")
    refused(places, f"did you mean {record.id}", folder / "nameless.safetensors", record.id[:-1])
    refused(places, "is of record", folder / "w.safetensors", "another")


def test_weights_of_another_network_are_refused(tiny, places):
    folder, record = tiny
    save_weights(folder / "conv.safetensors", {"w": torch.ones(2)}, record_id=record.id)
    refused(places, "does not fit the network", folder / "conv.safetensors")


def test_too_large_a_file_is_refused_with_its_size(tiny, places, monkeypatch):
    monkeypatch.setattr(stored_weights, "MAX_BYTES", 1_000)
    refused(places, r"fc\.safetensors takes 1\d{4} bytes", tiny[0] / "w.safetensors")


def test_a_forward_forward_record_has_no_weights_to_keep(places, tiny):
    record = next(r for r in read_ledger() if r.preset == "ff-1")
    del places["ledger"]
    save_weights(tiny[0] / "ff.safetensors", {"w": torch.ones(2)}, record_id=record.id)
    refused(places, "Forward-Forward", tiny[0] / "ff.safetensors")


def test_a_folder_without_weights_is_told_and_so_is_a_file_without_a_record(tmp_path):
    with pytest.raises(ValueError, match="folder must be one that holds weights"):
        load_stored("fc", folder=tmp_path / "typo")
    save_weights(tmp_path / "mine.safetensors", {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"mine\.safetensors names no record of a run"):
        load_stored("mine", folder=tmp_path)


def test_other_classes_and_other_things_than_a_network_and_its_record_are_refused(test_images):
    network, record = load_stored(next(iter(STORED)))
    odd = ImageSet(test_images.images[:2], torch.tensor([9, 10]), "own")
    with pytest.raises(ValueError, match=r"test_images.labels must lie in 0\.\.9, got 9 to 10"):
        measure(network, record, odd)
    with pytest.raises(ValueError, match="record must be RunRecord"):
        predict_stored(network, record.to_dict(), odd.images)
    for ask in (predict_stored, rates_stored):
        with pytest.raises(ValueError, match="network must be Module"):
            ask(network.state_dict(), record, odd.images)
        with pytest.raises(ValueError, match=r"images must be \[N, 1, 28, 28\]"):
            ask(network, record, odd.images[:, 0])


@pytest.mark.parametrize("preset", STORED)
def test_rates_are_spikes_per_step_and_the_highest_is_the_prediction(preset, test_images):
    network, record = load_stored(preset)
    images = test_images.images[:60]
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
