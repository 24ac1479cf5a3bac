"""Weights that a run kept are read back: the same network, and the predictions of its record."""

from dataclasses import replace

import pytest
import torch
from keep_weights import keep_weights
from toys import toy_images

from snnlib.cli.main import main
from snnlib.experiments import ff_stored
from snnlib.experiments.run import run_experiment
from snnlib.experiments.stored_weights import load_stored, predict_stored, rates_stored
from snnlib.records.ledger import append_record
from snnlib.settings.ff_experiment import FFConfig, PostConfig
from snnlib.settings.presets import PRESETS

TRAINING, TEST = toy_images(300, 1), toy_images(260, 0)
TINY = FFConfig(
    "tiny", "toy?", hidden=(30, 30), n_steps=4, epochs=3, lr=3e-3, batch_size=20,
    n_validation=100, shift_pixels=0,
)  # fmt: skip
CLASSWISE = {"rule": "class-wise", "hidden": (20,), "kernel": 3, "theta": None}
RUNS = {
    "dense layers": TINY,
    "spikes handed on": replace(TINY, pass_on="spikes"),
    "a linear head": replace(TINY, rule="neutral-head"),
    "convolutions": replace(TINY, epochs=1, **CLASSWISE),
    "backpropagation": replace(TINY, rule="bptt"),
    "a row of the post": PostConfig("row", "toy?", widths=(784, 20, 10), n_updates=8, n_steps=6),
    "a mended row": PostConfig(
        "row", "toy?", widths=(784, 20, 10), n_updates=8, n_steps=6, n_training=300,
        pixel_norm=False, shared_state=False, label_in_column=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_train_save_load_gives_the_recorded_predictions(name, tmp_path):
    config = RUNS[name]
    record = run_experiment(
        config, weights=tmp_path / "mine.safetensors", training_images=TRAINING, test_images=TEST
    )
    append_record(record, tmp_path / "ledger.jsonl")
    network, found = load_stored("mine", folder=tmp_path)
    assert found == type(record).from_dict(found.to_dict())
    assert found.id == record.id
    assert not network.training
    assert ff_stored.settings_of(found) == config
    predicted = predict_stored(network, found, TEST.images)
    assert int((predicted == TEST.labels).sum()) == record.result.n_correct
    assert record.result.n_correct > 0
    for images in (TEST.images.numpy(), TEST.images.double()):
        assert torch.equal(predict_stored(network, found, images), predicted)
    with pytest.raises(
        ValueError, match="Forward-Forward, whose weights are not kept here; load_stored reads"
    ):
        keep_weights(tmp_path / "mine.safetensors", ledger=tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError, match="record must be of a network with ten output neurons"):
        rates_stored(network, found, TEST.images)


def test_what_random_spikes_answer_is_about_as_good(tmp_path):
    config = replace(TINY, encoding="poisson", n_steps=20, epochs=6)
    record = run_experiment(
        config, weights=tmp_path / "w.safetensors", training_images=TRAINING, test_images=TEST
    )
    append_record(record, tmp_path / "ledger.jsonl")
    network, found = load_stored("w", folder=tmp_path)
    again = (predict_stored(network, found, TEST.images) == TEST.labels).float().mean()
    assert record.result.low <= again <= record.result.high


def test_a_spiking_network_predicts_as_it_was_tested(tmp_path):
    config = replace(
        PRESETS["fc"], protocol="honest", epochs=2, batch_size=25, n_steps=5, lr=1e-2, device="cpu"
    )
    record = run_experiment(
        config, weights=tmp_path / "fc.safetensors", training_images=TRAINING, test_images=TEST
    )
    append_record(record, tmp_path / "ledger.jsonl")
    network, found = load_stored("fc", folder=tmp_path)
    predicted = predict_stored(network, found, TEST.images)
    assert int((predicted == TEST.labels).sum()) == record.result.n_correct
    assert len(predict_stored(network, found, TEST.images[:0])) == 0
    for images, match in (
        (TEST.images[0], r"images must be \[N, 1, 28, 28\], got a float32 tensor of shape"),
        (255 * TEST.images, "divide by 255"),
        (TEST.images.tolist(), "images must be a torch tensor"),
    ):
        with pytest.raises(ValueError, match=match):
            predict_stored(network, found, images)


def test_a_lost_record_is_told_with_the_ledger_that_was_read(tmp_path):
    record = run_experiment(
        replace(TINY, epochs=1), weights=tmp_path / "w.safetensors",
        training_images=TRAINING, test_images=TEST,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"no record 'tiny-.* in the ledger of the package; pass"):
        load_stored("w", folder=tmp_path)
    append_record(replace(record, id="another"), tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError, match=r"no record 'tiny-.*that was read is .*ledger\.jsonl"):
        load_stored("w", folder=tmp_path)
    with pytest.raises(ValueError, match=r"ledger must be a file that is there, got .*none\.jsonl"):
        load_stored("w", folder=tmp_path, ledger=tmp_path / "none.jsonl")


def test_the_command_line_keeps_what_can_be_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--limit", "60", "--test-limit", "20", "-b", "20", "-epochs", "1", "--device", "cpu"]
    assert main(["train", "fc-quick", *words, "-save-model"]) == 0
    network, record = load_stored("fc-quick-post-s0", folder="runs")
    assert record.preset == "fc-quick"
    assert predict_stored(network, record, TEST.images[:3]).shape == (3,)
