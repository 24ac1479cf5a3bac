"""The ledger and the files of weights: nothing is lost, nothing is half written."""

import json
import multiprocessing
import os
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from snnlib.intervals import accuracy_interval
from snnlib.records.checkpoints import load_checkpoint, load_weights, save_checkpoint, save_weights
from snnlib.records.correct import pack_correct, unpack_correct
from snnlib.records.ledger import (
    LedgerWarning,
    append_record,
    ledger_path,
    ledger_table,
    markdown_table,
    read_ledger,
)
from snnlib.records.record import Result, RunRecord
from snnlib.records.reproduction import summary


def result(n_correct=9289, n_images=10_000, epoch=2):
    return Result(n_correct, n_images, epoch, *accuracy_interval(n_correct, n_images))


def record(**changes):
    counts = {"loss": 0.02, "n_correct": 9, "n_images": 10, "seconds": 1.0}
    values = {
        "id": "fc-post-s0",
        "claim": "fc",
        "preset": "fc",
        "question": "Does it reach 92.89 %?",
        "settings": {"n_steps": 100, "lr": 1e-3},
        "protocol": "post",
        "seed": 0,
        "data_source": "MNIST",
        "n_training": 60_000,
        "n_validation": 0,
        "n_test": 10_000,
        "history": [{"number": n, "training": counts, "test": counts} for n in (1, 2)],
        "last": result(),
        "best_on_test": result(),
        "validation_selected": None,
        "versions": {"torch": "2.6"},
        "commit": "unknown",
        "dirty": False,
        "device": "cpu",
        "threads": 1,
        "seconds": 12.5,
        "finished": "2026-01-31T12:00:00+00:00",
    }
    return RunRecord(**{**values, **changes})


def test_a_record_survives_the_way_through_json():
    text = json.dumps(record().to_dict())
    assert RunRecord.from_dict(json.loads(text)) == record()


def test_every_line_of_the_packaged_ledger_is_a_valid_record_of_its_own():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = read_ledger()
    n_lines = sum(bool(line.strip()) for line in ledger_path().read_text().splitlines())
    assert len(records) == n_lines
    assert len({r.id for r in records}) == n_lines
    for r in records:
        interval = accuracy_interval(r.result.n_correct, r.result.n_images)
        assert (r.result.low, r.result.high) == pytest.approx(interval)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("seed", -1),
        ("seed", True),
        ("n_training", "60000"),
        ("protocol", "optimistic"),
        ("settings", []),
        ("last", None),
        ("best_on_test", {"n_correct": 1}),
        ("history", [{"number": 2}]),
        ("history", [{"number": 1, "training": {"loss": float("nan")}}]),
        ("n_test", 64),
        ("seconds", float("inf")),
        ("threads", 0),
        ("dirty", "no"),
        ("finished", "2026-01-31T12:00:00"),
        ("schema_version", 3),
        ("versions", None),
    ],
)
def test_an_impossible_field_is_refused_by_name(field, value):
    named = "last" if field == "n_test" else field  # results must count n_test images
    with pytest.raises(ValueError, match=named):
        record(**{field: value})


def test_the_honest_protocol_needs_the_epoch_picked_on_validation():
    with pytest.raises(ValueError, match="validation_selected"):
        record(protocol="honest")
    honest = record(protocol="honest", last=None, best_on_test=None, validation_selected=result(9))
    assert honest.result.n_correct == 9


def test_more_hits_than_images_are_refused():
    with pytest.raises(ValueError, match="n_correct"):
        Result(11, 10, 1, 0.5, 1.0)
    with pytest.raises(ValueError, match="low and high"):
        Result(5, 10, 1, 0.6, 0.9)


@pytest.mark.parametrize("n_correct", [0, 10])
def test_no_hit_and_no_miss_are_possible_results(n_correct):
    assert result(n_correct, 10).accuracy == n_correct / 10


def test_missing_and_unknown_fields_are_named():
    stored = record().to_dict()
    del stored["seed"]
    with pytest.raises(ValueError, match="seed"):
        RunRecord.from_dict(stored)
    with pytest.raises(ValueError, match="mood"):
        RunRecord.from_dict({**record().to_dict(), "mood": "good"})


def test_a_record_of_another_version_says_so():
    with pytest.raises(ValueError, match="another version"):
        RunRecord.from_dict({**record().to_dict(), "schema_version": 99})


def test_what_was_appended_is_read_back_in_order(tmp_path):
    path = tmp_path / "new folder" / "ledger.jsonl"
    for seed in (3, 1, 2):
        append_record(record(seed=seed), path)
    assert [r.seed for r in read_ledger(path)] == [3, 1, 2]


def test_no_ledger_is_an_empty_one(tmp_path):
    assert read_ledger(tmp_path / "none.jsonl") == []


def test_a_torn_last_line_is_reported_and_costs_no_other(tmp_path):
    path = tmp_path / "ledger.jsonl"
    append_record(record(seed=1), path)
    append_record(record(seed=2, notes="naïve"), path)
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) // 3):
        path.write_bytes(whole[:-cut])
        expected = [1, 2] if cut == 1 else [1]  # only its line break is gone
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert [r.seed for r in read_ledger(path)] == expected
        assert [w.category for w in caught] == [LedgerWarning] * (2 - len(expected))

        append_record(record(seed=3), path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LedgerWarning)
            assert [r.seed for r in read_ledger(path)] == [*expected, 3]


def test_a_damaged_line_in_the_middle_is_named_by_its_number(tmp_path):
    path = tmp_path / "ledger.jsonl"
    append_record(record(seed=1), path)
    with path.open("ab") as stream:
        stream.write(b'{"id": "\xff\xfe"}\n[1, 2]\n')
    append_record(record(seed=2), path)
    with pytest.warns(LedgerWarning, match="line [23] of") as caught:
        assert [r.seed for r in read_ledger(path)] == [1, 2]
    assert len(caught) == 2


def test_many_writers_lose_no_line(tmp_path):
    path = tmp_path / "ledger.jsonl"
    long = record(notes="x" * 20_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: append_record(replace(long, seed=seed), path), range(64)))
    assert sorted(r.seed for r in read_ledger(path)) == list(range(64))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to save their start")
def test_two_processes_append_at_once(tmp_path):
    path = tmp_path / "ledger.jsonl"

    def append_thirty():
        for seed in range(30):
            append_record(record(seed=seed), path)

    context = multiprocessing.get_context("fork")
    running = [context.Process(target=append_thirty) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert sorted(r.seed for r in read_ledger(path)) == sorted([*range(30)] * 2)


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    append_record(record(seed=1), path)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr("os.write", lambda handle, content: write(handle, content[:50]))
    with pytest.raises(OSError, match="disk is full"):
        append_record(record(seed=2), path)
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_the_table_shows_sample_size_and_interval_beside_the_accuracy():
    row = ledger_table([record()])[0]
    assert row["test accuracy"] == "92.89%"
    assert row["test images"] == "10000"
    assert row["95 % interval"] == "92.37 to 93.38"
    lines = markdown_table([row]).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1


def test_a_checkpoint_gives_back_exactly_what_went_in(tmp_path):
    path = tmp_path / "run.ckpt"
    state = {"weight": torch.rand(3, 4), "epoch": 3, "nested": {"lr": [0.1, None]}}
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("weight"), state.pop("weight"))
    assert loaded == state


def test_a_failed_save_leaves_the_last_good_checkpoint_alone(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"epoch": 1})

    def full_disk(state, name):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="could not be written"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["run.ckpt"]


class Villain:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("damage", ["truncated", "pickle", "text", "empty", "foreign"])
def test_a_bad_checkpoint_is_refused_in_one_sentence(tmp_path, damage, capsys):
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"weight": torch.rand(100)})
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "pickle": pickle.dumps(Villain(), protocol=2),
        "text": b"hello",
        "empty": b"",
    }
    if damage == "foreign":
        torch.save({"weight": torch.rand(3)}, path)
    else:
        path.write_bytes(contents[damage])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no checkpoint of snnlib; nothing was changed"):
        load_checkpoint(path)
    assert path.read_bytes() == before
    assert "never" not in capsys.readouterr().out


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_weights_survive_exactly_and_in_half_precision_nearly(tmp_path):
    weights = {"w": torch.rand(5, 7).T, "n": torch.tensor(3)}
    save_weights(tmp_path / "w.safetensors", weights, record_id="fc-1")
    loaded, record_id = load_weights(tmp_path / "w.safetensors")
    assert record_id == "fc-1"
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)

    save_weights(tmp_path / "h.safetensors", weights, half=True)
    halved, _ = load_weights(tmp_path / "h.safetensors")
    assert halved["w"].dtype == torch.float32
    assert halved["n"].dtype == torch.int64
    # Eleven bits of mantissa: rounding to nearest errs by 2^-11 relative at most.
    torch.testing.assert_close(halved["w"], weights["w"], rtol=2**-11, atol=0)


def test_weights_that_are_none_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"hello")
    with pytest.raises(ValueError, match="safetensors"):
        load_weights(tmp_path / "w.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_weights(tmp_path / "none.safetensors")


def test_a_record_with_tuples_among_its_settings_is_read_back_as_it_was(tmp_path):
    written = record(settings={"hidden": (20, 20)}, extra={"sizes": [(1, 2)]})
    append_record(written, tmp_path / "mine.jsonl")
    assert read_ledger(tmp_path / "mine.jsonl") == [written]


def test_a_record_that_was_written_twice_counts_once_and_one_seed_run_twice_is_told():
    one, two = record(id="a"), record(id="b", seed=1)
    assert summary([one, one]) == summary([one])
    assert "2 seeds" in summary([one, two, two])
    assert "2 runs of 1 seed," in summary([one, record(id="c")])


# --- which images were predicted correctly


@pytest.mark.parametrize("n_images", [1, 7, 8, 9, 10_000])
def test_packed_bits_come_back_as_they_were(n_images):
    bits = [i % 7 != 0 for i in range(n_images)]
    assert unpack_correct(pack_correct(bits), n_images) == bits
    assert unpack_correct(pack_correct([False] * n_images), n_images) == [False] * n_images


def test_ten_thousand_bits_of_a_good_network_take_less_than_a_kilobyte():
    generator = random.Random(0)
    bits = [generator.random() < 0.99 for _ in range(10_000)]
    assert len(pack_correct(bits)) < 1000


def test_bits_that_do_not_fit_their_count_are_refused():
    packed = pack_correct([True, False, True])
    assert Result(2, 3, 1, 0.1, 1.0, packed).images_correct() == [True, False, True]
    with pytest.raises(ValueError, match="correct must be of 1 images predicted correctly"):
        Result(1, 3, 1, 0.0, 1.0, packed)
    with pytest.raises(ValueError, match="correct must be of 4 images, got 3 bits"):
        unpack_correct(packed, 4)
    with pytest.raises(ValueError, match="correct must be a packed list of bits"):
        unpack_correct("no such text", 4)


def test_a_line_of_version_one_is_still_read(tmp_path):
    old = record().to_dict() | {"schema_version": 1}
    for name in ("last", "best_on_test", "validation_selected"):
        if old[name] is not None:
            old[name].pop("correct")
    assert RunRecord.from_dict(old).result.correct == ""
