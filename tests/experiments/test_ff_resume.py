"""Forward-Forward runs that are interrupted, resumed, and kept."""

from dataclasses import replace

import pytest
import torch
from toys import TINY, TOY_ROW, toy_images

from snnlib.cli.main import main
from snnlib.experiments import ff_run as ff_experiments
from snnlib.experiments.ff_factory import prepare_ff
from snnlib.experiments.run import run_experiment
from snnlib.forward_forward import training as ff_training
from snnlib.records.checkpoints import load_checkpoint, load_weights, save_checkpoint
from snnlib.records.ledger import read_ledger
from snnlib.settings.ff_presets import FF_PRESETS

WHOLE, TEST = toy_images(160, 1), toy_images(70, 0)
SMALL = replace(TINY, hidden=(20, 20), n_steps=3, epochs=2, n_validation=60)
IMAGES = {"training_images": WHOLE, "test_images": TEST}
KINDS = {
    "plain": {},
    "shifted": {"shift_pixels": 1},
    "one after another": {"layers_at_once": False},
    "between two layers": {"layers_at_once": False, "epochs": 1},
    "poisson": {"encoding": "poisson"},
    "spikes": {"encoding": "poisson", "pass_on": "spikes"},
    "two-pass": {"rule": "two-pass"},
    "bptt": {"rule": "bptt"},
    "class-wise": {"rule": "class-wise", "hidden": (10,), "dense": (20,)},
}
ROWS = {"a row of the post": TOY_ROW, "on more images": replace(TOY_ROW, batch_size=24)}
CONFIGS = {**{kind: replace(SMALL, **changes) for kind, changes in KINDS.items()}, **ROWS}


def what_counts(record) -> tuple:
    """All of a record but times and names."""
    numbers = [
        [
            (name, epoch[name]["loss"], epoch[name]["n_correct"])
            for name in epoch
            if name != "number"
        ]
        for epoch in record.history
    ]
    return numbers, record.result, record.extra, record.settings


class Stop(Exception):
    """Raised in the middle of a run."""


def stop_after(n_epochs: int):
    def on_epoch_end(epoch) -> None:
        if epoch.number == n_epochs:
            raise Stop

    return on_epoch_end


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(config, tmp_path):
    kept = [tmp_path / name for name in ("at_once.safetensors", "resumed.safetensors")]
    expected = run_experiment(config, weights=kept[0], **IMAGES)
    place = tmp_path / "run.ckpt"
    with pytest.raises(Stop):
        run_experiment(config, checkpoint=place, on_epoch_end=stop_after(1), **IMAGES)
    numbers = []

    record = run_experiment(
        config,
        weights=kept[1],
        resume=place,
        checkpoint=place,
        on_epoch_end=lambda epoch: numbers.append(epoch.number),
        **IMAGES,
    )

    assert numbers[0] == 2
    assert what_counts(record) == what_counts(expected)
    at_once, resumed = (load_weights(path)[0] for path in kept)
    for name, tensor in at_once.items():
        assert torch.equal(tensor, resumed[name]), name


def test_an_interruption_within_an_epoch_goes_on_from_its_beginning(tmp_path):
    config, place = SMALL, tmp_path / "run.ckpt"
    expected = run_experiment(config, **IMAGES)

    def break_in_second_epoch(batches, epoch):
        for k, batch in enumerate(batches):
            if (epoch, k) == (2, 3):
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        run_experiment(config, checkpoint=place, progress=break_in_second_epoch, **IMAGES)
    assert what_counts(run_experiment(config, resume=place, **IMAGES)) == what_counts(expected)


def test_a_finished_checkpoint_trains_no_more_and_counts_the_same(tmp_path):
    config, place = SMALL, tmp_path / "run.ckpt"
    expected = run_experiment(config, checkpoint=place, **IMAGES)
    record = run_experiment(config, resume=place, on_epoch_end=stop_after(1), **IMAGES)
    assert what_counts(record) == what_counts(expected)


def test_other_settings_are_refused_and_nothing_is_changed(tmp_path):
    config, place = replace(SMALL, epochs=1), tmp_path / "run.ckpt"
    run_experiment(config, checkpoint=place, **IMAGES)
    before = place.read_bytes()
    with pytest.raises(
        ValueError, match=r"was made with loss_slope=6.0, this run has loss_slope=3.0"
    ):
        run_experiment(replace(config, loss_slope=3.0), resume=place, checkpoint=place, **IMAGES)
    assert place.read_bytes() == before
    place.write_bytes(before[:100])
    with pytest.raises(ValueError, match="damaged"):
        run_experiment(config, resume=place, checkpoint=place, **IMAGES)


def test_a_checkpoint_older_than_a_setting_had_its_default(tmp_path):
    config, place = replace(SMALL, epochs=1), tmp_path / "run.ckpt"
    run_experiment(config, checkpoint=place, **IMAGES)
    state = load_checkpoint(place)
    del state["settings"]["rule"]
    save_checkpoint(place, state)
    run_experiment(config, resume=place, **IMAGES)
    with pytest.raises(ValueError, match="rule='goodness'"):
        run_experiment(replace(config, rule="bptt"), resume=place, **IMAGES)


def test_the_checkpoint_of_an_earlier_run_is_kept_under_another_name(tmp_path):
    place = tmp_path / "run.ckpt"
    run_experiment(replace(SMALL, epochs=1), checkpoint=place, **IMAGES)
    before = place.read_bytes()
    run_experiment(replace(SMALL, epochs=1, seed=7), checkpoint=place, **IMAGES)
    assert (tmp_path / "run.ckpt.old").read_bytes() == before
    assert load_checkpoint(place)["settings"]["seed"] == 7


@pytest.mark.parametrize("config", [replace(SMALL, epochs=1), TOY_ROW])
def test_weights_are_kept_with_the_id_of_their_record(config, tmp_path):
    place = tmp_path / "kept.safetensors"
    record = run_experiment(config, weights=place, **IMAGES)
    weights, record_id = load_weights(place)
    assert record_id == record.id
    assert any(tensor.shape[1:] == (784,) for tensor in weights.values())


def test_kept_weights_answer_as_the_record_says(tmp_path):
    config, place = SMALL, tmp_path / "kept.safetensors"
    record = run_experiment(config, weights=place, **IMAGES)
    run = prepare_ff(config, 100)
    run.network.load_state_dict(load_weights(place)[0])
    hits = ff_training.count_correct(run, TEST)
    assert hits[record.extra["judged_by"]] == record.result.n_correct


def test_a_checkpoint_of_an_earlier_version_is_refused_and_kept(tmp_path):
    place = tmp_path / "run.ckpt"
    run_experiment(SMALL, checkpoint=place, **IMAGES)
    state = load_checkpoint(place)
    del state["learner"]
    save_checkpoint(place, state)
    before = place.read_bytes()
    with pytest.raises(ValueError, match="made by an earlier version of snnlib; nothing was"):
        run_experiment(SMALL, checkpoint=place, resume=place, **IMAGES)
    assert place.read_bytes() == before


# --- the command line


@pytest.fixture
def toy_preset(monkeypatch):
    """A preset of toy size under the name of a real one, on toy images."""
    monkeypatch.setattr(ff_experiments, "load_mnist", lambda *, train: WHOLE if train else TEST)
    small = replace(SMALL, name="ff-alike-16")
    monkeypatch.setitem(FF_PRESETS, "ff-alike-16", small)


@pytest.mark.usefixtures("toy_preset")
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path, monkeypatch, capsys):
    words = ["reproduce", "ff-alike-16", "--out-dir", str(tmp_path), "--save-model"]
    words += ["--ledger", str(tmp_path / "ledger.jsonl")]
    finished, one_epoch = [], ff_experiments.learn_epoch

    def interrupted(run, *rest):
        if run.n_done == 1 and not finished:
            finished.append(run.n_done)
            raise KeyboardInterrupt
        return one_epoch(run, *rest)

    monkeypatch.setattr(ff_experiments, "learn_epoch", interrupted)
    assert main(words) == 130
    assert "snnlib reproduce ff-alike-16" in capsys.readouterr().err
    assert list(tmp_path.glob("*.ckpt"))

    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "epoch 2/2" in shown
    assert "epoch 1/2" not in shown
    (record,) = read_ledger(tmp_path / "ledger.jsonl")
    assert len(record.history) == 2
    assert not list(tmp_path.glob("*.ckpt"))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert main(words) == 0
    assert "1 of 1 runs are recorded already" in capsys.readouterr().out
