"""Bad luck: a killed run, a full disk, a strange file, a processor without bfloat16."""

import logging
import os
import pickle
import shlex
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from snnlib.cli.main import main
from snnlib.experiments import bptt_run
from snnlib.experiments import run as experiments
from snnlib.records import environment
from snnlib.records.checkpoints import load_checkpoint, save_weights
from snnlib.records.ledger import append_record, read_ledger
from snnlib.settings.presets import PRESETS

QUICK = ["--limit", "60", "--test-limit", "20", "-T", "3", "-b", "20", "--engine", "scan"]


@pytest.fixture
def small(tmp_path):
    return [*QUICK, "-epochs", "2", "-device", "cpu", "-out-dir", str(tmp_path)]


def test_sigterm_leaves_a_checkpoint_the_way_back_and_exit_code_143(
    small, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(
            "snnlib.experiments.bptt_run.train_epoch",
            lambda *words, **options: os.kill(os.getpid(), signal.SIGTERM),
        )
        assert main(["train", "fc", *small]) == 143
    checkpoint = tmp_path / "fc-post-s0.ckpt"
    advice = capsys.readouterr().err.strip().splitlines()[-1].strip()
    assert advice == shlex.join(["snnlib", "train", "fc", *small, "-resume", str(checkpoint)])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    assert main(shlex.split(advice)[1:]) == 0
    assert len(load_checkpoint(checkpoint)["history"]) == 2


def test_a_refused_run_leaves_an_earlier_checkpoint_alone(small, tmp_path, capsys):
    assert main(["train", "fc", *small]) == 0
    checkpoint = tmp_path / "fc-post-s0.ckpt"
    before = checkpoint.read_bytes()
    for _ in range(2):
        assert main(["train", "fc", *small, "-b", "100"]) == 1
        assert "batch_size must not exceed the 60 training images" in capsys.readouterr().err
    shorter = ["-epochs", "1", "-resume", str(checkpoint)]
    assert main(["train", "fc", *small, *shorter]) == 1
    assert "epochs must be at least the 2 that" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
    assert list(tmp_path.glob("*.old")) == []


def test_a_run_without_a_finished_epoch_does_not_push_out_a_better_checkpoint(
    small, tmp_path, monkeypatch
):
    assert main(["train", "fc", *small]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(
            "snnlib.experiments.bptt_run.train_epoch",
            lambda *words, **options: os.kill(os.getpid(), signal.SIGTERM),
        )
        for _ in range(2):
            assert main(["train", "fc", *small]) == 143
    assert len(load_checkpoint(tmp_path / "fc-post-s0.ckpt.old")["history"]) == 2


def test_sigterm_ends_reproduce_with_143_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    tiny = PRESETS["fc"].but(
        "fc",
        "Tiny?",
        n_steps=3,
        epochs=1,
        limit=60,
        test_limit=20,
        batch_size=20,
        engine="scan",
        device="cpu",
    )
    monkeypatch.setitem(PRESETS, "fc", tiny)
    monkeypatch.setattr(
        "snnlib.experiments.bptt_run.train_epoch",
        lambda *words, **options: os.kill(os.getpid(), signal.SIGTERM),
    )
    words = ["reproduce", "fc", "--ledger", str(tmp_path / "l.jsonl"), "-out-dir", str(tmp_path)]
    assert main(words) == 143
    assert shlex.join(["snnlib", *words]) in capsys.readouterr().err
    assert (tmp_path / "fc-post-s0.ckpt").exists()


@contextmanager
def files_of_at_most(n_bytes):
    """No file may grow beyond ``n_bytes`` meanwhile, which looks like a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_is_one_sentence_and_costs_neither_checkpoint_nor_ledger(
    small, tmp_path, capfd
):
    assert main(["train", "fc", *small, "-epochs", "1"]) == 0
    before = contents(tmp_path)
    assert set(before) == {"fc-post-s0.ckpt", "ledger.jsonl"}
    capfd.readouterr()

    words = ["train", "fc", *small, "-epochs", "2", "--continue"]
    with files_of_at_most(20_000):
        assert main(words) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1
    assert "fc-post-s0.ckpt could not be written" in message
    assert "the older file of that name is kept" in message
    assert contents(tmp_path) == before

    assert main(words) == 0
    assert len(load_checkpoint(tmp_path / "fc-post-s0.ckpt")["history"]) == 2


@pytest.mark.parametrize("room", [0, 100])
def test_a_disk_that_fills_up_within_a_line_leaves_the_ledger_whole(small, tmp_path, room):
    assert main(["train", "fc", *small, "-epochs", "1"]) == 0
    path = tmp_path / "ledger.jsonl"
    (record,), before = read_ledger(path), path.read_bytes()
    with (
        files_of_at_most(len(before) + room),
        pytest.raises(OSError, match="disk is full: no line was added"),
    ):
        append_record(record, path)
    assert path.read_bytes() == before
    append_record(record, path)
    assert len(read_ledger(path)) == 2


def test_weights_that_do_not_fit_on_the_disk_leave_the_older_ones(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"w": torch.ones(2)}, record_id="earlier")
    before = contents(tmp_path)
    with files_of_at_most(1_000), pytest.raises(OSError, match="could not be written"):
        save_weights(path, {"w": torch.rand(10_000)})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["another preset", "truncated", "pickle"])
def test_a_resume_file_that_does_not_fit_is_one_sentence_and_stays(damage, small, tmp_path, capsys):
    assert main(["train", "fc", *small, "-epochs", "1"]) == 0
    path = tmp_path / "fc-post-s0.ckpt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"history": []}))
    before = contents(tmp_path)
    capsys.readouterr()

    assert main(["train", "fc-ce", *small, "-resume", str(path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "nothing was changed" in message
    assert ("name='fc'" in message) == (damage == "another preset")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("native", "n_warnings"), [(False, 1), (True, 0), (None, 0)])
def test_bfloat16_on_a_processor_without_it_is_warned_of(native, n_warnings, caplog, monkeypatch):
    monkeypatch.setattr(bptt_run, "has_bfloat16_instructions", lambda: native)
    settings = {"channels": 2, "epochs": 1, "batch_size": 12, "limit": 24, "test_limit": 10}
    config = PRESETS["csnn"].but("csnn", "?", **settings, device="cpu", amp="bfloat16")
    with caplog.at_level(logging.WARNING, logger="snnlib"):
        experiments.run_experiment(replace(config, engine="scan"))
    told = [r.message for r in caplog.records if "bfloat16" in r.message]
    assert len(told) == n_warnings
    assert all("amp='off' is the better choice" in text for text in told)


@pytest.mark.parametrize(
    ("machine", "probes", "features", "answer"),
    [
        ("x86_64", {"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": True}, "", True),
        ("AMD64", {"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": False}, "", False),
        ("x86_64", {}, "", None),
        ("aarch64", {}, "fp asimd i8mm bf16", True),
        ("aarch64", {}, "fp asimd", False),
        ("arm64", {}, "", None),
    ],
)
def test_whether_a_processor_knows_bfloat16(machine, probes, features, answer, monkeypatch):
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    monkeypatch.setattr(environment, "_cpuinfo", lambda key: features)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
        if name in probes:
            value = probes[name]
            monkeypatch.setattr(torch.cpu, name, lambda value=value: value, raising=False)
    assert environment.has_bfloat16_instructions() is answer
