"""Weights in the package: each is as good as its record says, and nothing else gets in."""

from dataclasses import replace

import pytest
import torch
from keep_weights import (
    MAX_BYTES,
    MAX_BYTES_IN_ALL,
    check_accuracy,
    keep_weights,
    measure,
    tolerance,
)
from safetensors import safe_open

from snnlib.data import load_mnist
from snnlib.experiments.engines import make_network
from snnlib.experiments.run import run_experiment
from snnlib.experiments.stored_weights import load_stored, stored_presets
from snnlib.records.checkpoints import load_weights, save_weights
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
    assert len(test_images) == record.result.n_images == 10_000
    assert abs(again - record.result.accuracy) <= tolerance(record)


def test_stored_weights_are_halves_and_few_bytes():
    assert {"fc", "csnn-16"} <= set(STORED)
    sizes = [path.stat().st_size for path in STORED.values()]
    assert max(sizes) <= MAX_BYTES
    assert sum(sizes) <= MAX_BYTES_IN_ALL
    for path in STORED.values():
        with safe_open(path, framework="pt") as stored:
            kinds = {stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118
        assert kinds <= {torch.float16, torch.int64}


def test_weights_as_good_as_their_record_are_kept_in_half_the_bytes(tiny, places):
    folder, record = tiny
    path, kept = keep_weights(folder / "w.safetensors", **places)
    weights, named = load_weights(path)
    assert (path.name, named) == ("fc.safetensors", record.id)
    assert abs(kept - record.result.accuracy) <= tolerance(record)
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
    whole = record.result.accuracy
    quarter = (record.result.high - record.result.low) / 8  # of the half width
    check_accuracy(record, whole, whole - 0.999 * quarter)
    with pytest.raises(ValueError, match="float16 moves the accuracy"):
        check_accuracy(record, whole, whole - 1.001 * quarter)


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
    monkeypatch.setattr("keep_weights.MAX_BYTES", 1_000)
    refused(places, r"fc\.safetensors takes 1\d{4} bytes", tiny[0] / "w.safetensors")


def test_a_forward_forward_record_has_no_weights_to_keep(places, tiny):
    record = next(r for r in read_ledger() if r.preset == "ff-1")
    del places["ledger"]
    save_weights(tiny[0] / "ff.safetensors", {"w": torch.ones(2)}, record_id=record.id)
    refused(places, "Forward-Forward", tiny[0] / "ff.safetensors")
