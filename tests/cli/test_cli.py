"""The command line: the posts' flags, nearest names, a clean stop."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from snnlib.cli.flags import make_parser, with_flags
from snnlib.cli.main import _without_resume, main
from snnlib.records import environment
from snnlib.records.checkpoints import load_checkpoint, load_weights
from snnlib.records.ledger import read_ledger
from snnlib.records.reproduction import (
    claim_rows,
    find_claims,
    is_recorded,
    minutes_a_run,
    planned_runs,
    records_of,
)
from snnlib.settings.claims import CLAIMS
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

QUICK = ["--limit", "60", "--test-limit", "20", "-T", "3", "-b", "20", "-epochs", "2"]


@pytest.fixture
def small(tmp_path):
    return [*QUICK, "--engine", "scan", "-device", "cpu", "-out-dir", str(tmp_path)]


def test_a_place_that_cannot_be_written_is_refused_before_the_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for flag in ("--out-dir", "--ledger"):
        place = str(tmp_path / "file" / "below")
        assert main(["train", "fc-quick", flag, place]) == 1
        out, err = capsys.readouterr()
        assert f"snnlib: {flag} must name a place that can be written to, got" in err
        assert "epoch" not in out
    assert main(["train", "fc-quick", "--out-dir", str(tmp_path), "--ledger", str(tmp_path)]) == 1
    assert f"--ledger must name a place that can be written to, got {tmp_path}" in (
        capsys.readouterr().err
    )


def test_the_way_on_leaves_out_the_file_that_a_run_came_from():
    words = ["train", "fc", "-resume", "old.ckpt", "--resume=older.ckpt", "-b", "20"]
    assert _without_resume(words) == ["train", "fc", "-b", "20"]


def test_no_seed_at_all_is_refused(capsys):
    assert main(["reproduce", "fc", "--seeds", "0"]) == 1
    assert "seeds must be a whole number of at least 1, got 0" in capsys.readouterr().err


def test_the_posts_flags_change_the_settings_they_name():
    words = "train fc -T 50 -device cpu -b 64 -epochs 7 -j 4 -opt sgd -momentum 0.5 -lr 0.1 -tau 3"
    options = make_parser().parse_args([*words.split(), "-amp", "-save-model", "-resume", "x"])
    config = with_flags(PRESETS["fc"], options)
    assert (config.n_steps, config.device, config.batch_size, config.epochs) == (50, "cpu", 64, 7)
    assert (config.optimizer, config.momentum, config.lr, config.tau) == ("sgd", 0.5, 0.1, 3.0)
    assert (config.amp, options.save_model, options.resume) == ("bfloat16", True, "x")


def test_without_flags_a_preset_stays_as_it_is():
    assert (
        with_flags(PRESETS["csnn"], make_parser().parse_args(["train", "csnn"])) == PRESETS["csnn"]
    )


def test_training_prints_a_line_per_epoch_and_leaves_record_and_weights(small, tmp_path, capsys):
    assert main(["train", "fc", *small, "-j", "4", "-save-model"]) == 0

    printed = capsys.readouterr().out
    assert "epoch 1/2" in printed
    assert "epoch 2/2" in printed
    assert "n=20" in printed
    assert "-j is not needed" in printed
    (record,) = read_ledger(tmp_path / "ledger.jsonl")
    assert (record.preset, record.n_training, len(record.history)) == ("fc", 60, 2)
    weights, record_id = load_weights(tmp_path / "fc-post-s0.safetensors")
    assert record_id == record.id
    assert [w.shape for w in weights.values()] == [(10, 784)]


def test_ctrl_c_leaves_a_checkpoint_the_way_back_and_exit_code_130(
    small, tmp_path, capsys, monkeypatch
):
    def interrupt(network, *words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("snnlib.experiments.bptt_run.train_epoch", interrupt)
        assert main(["train", "fc", *small]) == 130
    checkpoint = tmp_path / "fc-post-s0.ckpt"
    advice = capsys.readouterr().err.strip().splitlines()[-1].strip()
    assert advice == " ".join(["snnlib train fc", *small, "-resume", str(checkpoint)])
    assert load_checkpoint(checkpoint)["history"] == []

    assert main(advice.split()[1:]) == 0
    assert len(load_checkpoint(checkpoint)["history"]) == 2


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["train", "fcc"], "fc"),
        (["reproduce", "cssn"], "csnn"),
        (["reproduce", "csnn-short-sof"], "csnn-short-soft"),
        (["train", "smal-conv"], "small"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(words, nearest, capsys, tmp_path):
    assert main([*words, "-out-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"did you mean {nearest}" in message
    assert len(message.splitlines()) == 1


def test_a_damaged_resume_file_is_one_sentence_and_nothing_is_written(small, tmp_path, capsys):
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"hello")
    assert main(["train", "fc", *small, "-resume", str(damaged)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.ckpt"]


def test_a_setting_that_a_preset_does_not_have_is_named(capsys):
    assert main(["train", "ff-1", "--engine", "torch"]) == 1
    assert "engine" in capsys.readouterr().err


def test_list_shows_every_claim_with_its_command(capsys, tmp_path):
    assert main(["reproduce", "--list", "--ledger", str(tmp_path / "none.jsonl")]) == 0
    printed = capsys.readouterr().out
    for claim in CLAIMS.values():
        assert f"snnlib reproduce {claim.name} |" in printed
    assert "92.89 %" in printed
    assert "99.33 %" in printed


def test_planned_runs_cover_presets_protocols_and_seeds_once_each():
    runs = planned_runs([CLAIMS["fc"], CLAIMS["mse-vs-ce"]], 3)
    named = [(run.name, run.protocol, run.seed) for run in runs]
    assert sorted(named) == sorted(
        {("fc", "post", s) for s in range(3)}
        | {("fc", "honest", s) for s in range(3)}
        | {("fc-ce", "honest", s) for s in range(3)}
    )


def test_a_run_with_changed_settings_does_not_answer_the_claim(small, tmp_path, monkeypatch):
    assert main(["train", "fc", *small]) == 0
    records = read_ledger(tmp_path / "ledger.jsonl")
    assert records_of(CLAIMS["fc"], records, "post") == []
    assert not is_recorded(PRESETS["fc"], records)
    row = next(row for row in claim_rows(records) if row["claim"] == "fc")
    assert row["ours, post's protocol"] == "-"


def test_a_seed_that_was_run_twice_counts_once():
    record, *_ = records_of(CLAIMS["csnn-small"], read_ledger(), "honest")
    again = replace(record, id="again")
    other = replace(record, id="other", seed=7, settings={**record.settings, "seed": 7})
    found = records_of(CLAIMS["csnn-small"], [record, other, again], "honest")
    assert sorted(r.id for r in found) == ["again", "other"]


def test_the_cost_of_a_claim_is_what_its_presets_took():
    claim = CLAIMS["ff-two-pass"]
    records = {r.preset: r for r in read_ledger() if r.preset in claim.presets}
    took = dict(zip(claim.presets, (20.0, 130.0, 550.0), strict=True))
    runs = [replace(records[preset], seconds=s) for preset, s in took.items()]
    slow = replace(runs[2], id="slow", seed=1, seconds=650.0)
    assert minutes_a_run(claim, []) == "-"
    assert minutes_a_run(claim, runs[:1]) == "1"
    assert minutes_a_run(claim, [*runs, slow]) == "1 to 10"


def test_a_setting_unknown_to_an_old_record_had_its_default():
    record, *_ = records_of(CLAIMS["csnn-small"], read_ledger(), "honest")
    older = {name: value for name, value in record.settings.items() if name != "zoom"}
    older = replace(record, settings=older)
    assert is_recorded(PRESETS["csnn-16"], [older])
    assert not is_recorded(replace(PRESETS["csnn-16"], zoom=0.1), [older])


def test_a_preset_asks_for_what_its_claims_ask_of_it():
    runs = planned_runs(find_claims("small-conv-post"), 2)
    assert sorted((run.name, run.protocol, run.seed) for run in runs) == [
        ("small-conv-post", protocol, seed) for protocol in ("honest", "post") for seed in (0, 1)
    ]
    assert find_claims("csnn-best") == [CLAIMS["csnn-best"]]


def test_a_protocol_behind_a_name_leaves_the_other_one_out():
    runs = planned_runs([*find_claims("fc:post"), *find_claims("csnn-short-moves")], 1)
    assert [(run.name, run.protocol) for run in runs] == [
        ("fc", "post"),
        ("csnn-short-moves", "honest"),
    ]
    with pytest.raises(ValueError, match="protocol of 'csnn-best' must be honest, got 'post'"):
        find_claims("csnn-best:post")
    with pytest.raises(ValueError, match="protocol of 'fc' must be post or honest, got ''"):
        find_claims("fc:")
    # Its honest runs belong to one claim, those of the post's protocol to another.
    for protocol in ("post", "honest"):
        runs = planned_runs(find_claims(f"small-conv-post:{protocol}"), 1)
        assert [(run.name, run.protocol) for run in runs] == [("small-conv-post", protocol)]
    with pytest.raises(ValueError, match="there is no claim 'FC'; did you mean fc"):
        find_claims("FC:post")
    with pytest.raises(ValueError, match="there is no claim 'fcc'; did you mean"):
        find_claims("fcc:post")


def test_reproduce_runs_what_is_missing_records_it_and_is_then_done(tmp_path, capsys, monkeypatch):
    tiny = {"n_steps": 3, "epochs": 1, "limit": 60, "test_limit": 20, "engine": "scan"}
    for name in ("fc", "fc-ce"):
        preset = PRESETS[name].but(name, "Tiny?", **tiny, batch_size=20, device="cpu")
        monkeypatch.setitem(PRESETS, name, preset)
    places = ["--ledger", str(tmp_path / "l.jsonl"), "--out-dir", str(tmp_path)]

    def interrupt(network, *words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("snnlib.experiments.bptt_run.train_epoch", interrupt)
        assert main(["reproduce", "mse-vs-ce", *places]) == 130
    assert "goes on from" not in capsys.readouterr().out

    assert main(["reproduce", "mse-vs-ce", *places]) == 0
    printed = capsys.readouterr().out
    assert "0 of 2 runs" in printed
    assert printed.count("goes on from") == 1  # the second run had not begun
    assert f"goes on from {tmp_path / 'fc-honest-s0.ckpt'}" in printed
    records = read_ledger(tmp_path / "l.jsonl")
    assert [(r.preset, r.protocol) for r in records] == [("fc", "honest"), ("fc-ce", "honest")]
    assert not list(tmp_path.glob("*.ckpt"))

    assert main(["reproduce", "fc-ce", *places]) == 0  # one preset of the claim
    assert "1 of 1 runs" in capsys.readouterr().out
    assert main(["reproduce", "mse-vs-ce", *places]) == 0
    assert "2 of 2 runs" in capsys.readouterr().out
    assert len(read_ledger(tmp_path / "l.jsonl")) == 2


def test_the_ledger_prints_as_table_and_as_json(small, tmp_path, capsys):
    assert main(["train", "fc", *small]) == 0
    capsys.readouterr()
    path = str(tmp_path / "ledger.jsonl")
    assert main(["ledger", "--ledger", path]) == 0
    assert "| fc | post | 0 | 2 |" in capsys.readouterr().out
    assert main(["ledger", "--json", "--ledger", path]) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == "fc"


def test_help_teaches_with_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "snnlib train fc-quick" in printed
    assert all(name in printed for name in {**PRESETS, **FF_PRESETS})


def test_the_command_line_starts_without_torch():
    script = "import sys, snnlib.cli.main; assert not {'torch', 'numba'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("words", [["reproduce", "--list"], ["ledger"], ["reproduce", "nope"]])
def test_looking_something_up_does_not_wait_for_torch(words):
    script = (
        "import sys; from snnlib.cli.main import main; "
        f"main({words}); assert not {{'torch', 'numba'}} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("reproduce fc-quick", "preset 'fc-quick' belongs to no claim; run it with: snnlib train"),
        ("reproduce nosuch --list", "there is no claim 'nosuch'"),
        ("ledger --ledger nosuch.jsonl", "--ledger must name a file that is there, got nosuch"),
        ("train fc --test-limit 20000", "test_limit must be a whole number in 1..10000, got 20000"),
        (
            "train fc --seed 99999999999999999999",
            "seed must be a whole number in 0..4611686018427387904",
        ),
        ("train ff-class-500 --limit 100", "'ff-class-500' cannot be told --limit 100; it takes "),
        ("train ff-class-500 -b 1", "batch_size must be at least 2 with rule='class-wise'"),
        ("train ff-class-500 -b 49999", "must not leave one of 50000 training images alone"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert "epoch" not in out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_reader_that_has_seen_enough_and_a_damaged_line_cost_one_sentence_at_most(tmp_path):
    ledger = tmp_path / "l.jsonl"
    ledger.write_text("[1, 2]\n")
    snnlib = [sys.executable, "-m", "snnlib", "ledger"]
    shown = subprocess.run([*snnlib, "--ledger", ledger], capture_output=True, text=True)
    wanted = "snnlib: line 1 of l.jsonl left out: a record must be a JSON object, got list\n"
    assert (shown.returncode, shown.stderr) == (0, wanted)
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    for more in (["--json"], ["--ledger", str(ledger)]):  # much to say, and next to nothing
        with subprocess.Popen(
            [*snnlib, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
        ) as run:
            run.stdout.close()
            assert run.stderr.read().decode() == (wanted if "--ledger" in more else "")
        assert run.returncode == 0


def test_an_unknown_claim_is_answered_with_claims_not_with_every_preset(capsys):
    assert main(["reproduce", "qqq"]) == 1
    said = capsys.readouterr().err
    assert "known: fc, fc-b64, " in said
    assert "ff-try-base" not in said


def test_versions_name_what_decides_a_result():
    assert {"python", "snnlib", "torch", "spikingjelly"} <= set(environment.versions())
    commit, dirty = environment.commit()
    assert commit == "unknown" or len(commit) == 40
    assert isinstance(dirty, bool)


def test_a_comparison_lists_every_preset_that_has_run():
    rows = {row["claim"]: row for row in claim_rows(read_ledger())}
    cell = rows["fc-T"]["ours, honest"]
    names = [part.split()[0] for part in cell.split("; ")]
    recorded = {r.preset for r in read_ledger() if r.protocol == "honest"}
    assert names == [name for name in CLAIMS["fc-T"].presets if name in recorded]
    assert len(names) > 1


def test_an_empty_checkpoint_holds_nothing_to_go_on_from(small, tmp_path, capsys):
    (tmp_path / "fc-quick-post-s0.ckpt").touch()
    assert main(["train", "fc-quick", *small, "--continue"]) == 0
    assert "goes on from" not in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(2**52,), (2**40, 2**40)])  # petabytes, and no number of bytes
def test_too_little_memory_is_told_with_its_cure(shape, small, capsys, monkeypatch):
    monkeypatch.setattr(
        "snnlib.experiments.run.run_experiment", lambda *_, **__: torch.empty(shape)
    )
    assert main(["train", "fc-quick", *small]) == 1
    assert "a smaller -b, or fewer steps with -T, is the usual cure" in capsys.readouterr().err
