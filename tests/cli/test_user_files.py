"""What a user names is the user's: other files stay as they are, to the last byte."""

import json
import os
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from keep_weights import keep_weights
from safetensors.torch import save_file
from toys import TINY, TOY_ROW, toy_images

from snnlib.checks.files import check_apart, check_writable, named_path, older_name, write_whole
from snnlib.cli.main import main
from snnlib.data import load_mnist
from snnlib.experiments.run import run_experiment
from snnlib.experiments.stored_weights import load_stored
from snnlib.metrics import Epoch, EpochMetrics
from snnlib.mnist import originals
from snnlib.records.bench_results import read_bench
from snnlib.records.checkpoints import load_checkpoint, load_weights, save_checkpoint, save_weights
from snnlib.records.ledger import append_record, ledger_path, read_ledger
from snnlib.records.record import RunRecord
from snnlib.records.tensorboard import tensorboard_writer
from snnlib.settings.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(originals.SHA256)
TEST_NAMES = [name for name in NAMES if name.startswith("t10k")]
QUICK = ["--limit", "60", "--test-limit", "20", "-T", "3", "-b", "20", "-epochs", "1"]
QUICK += ["--engine", "scan", "-device", "cpu"]
FC = PRESETS["fc"].but(
    "fc", "Tiny?", n_steps=3, epochs=1, batch_size=20, engine="scan", device="cpu"
)
FF = replace(TINY, hidden=(8,), n_steps=3, epochs=1, n_validation=60)
IMAGES = {"training_images": toy_images(160, 1), "test_images": toy_images(70, 0)}


def state_of(folder):
    """Every file below a folder with its bytes, every folder, and every link with its aim."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        found[path.relative_to(folder).as_posix()] = kind
    return found


def make_foreign(path, kind):
    """A file, or something else, that snnlib did not write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "docx":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "<thesis/>")
    elif kind == "torch":
        torch.save({"state_dict": {"w": torch.rand(3)}, "history": [1]}, path)
    elif kind == "safetensors":
        save_file({"w": torch.rand(3)}, path, metadata={"format": "pt"})
    elif kind == "json":
        path.write_text(json.dumps({"id": "a", "rows": [], "machine": {}}))
    elif kind == "jsonl":
        path.write_text('{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n')
    elif kind == "csv":
        path.write_text("epoch,loss\n1,0.5\n")
    else:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


FOREIGN = ["folder", "docx", "torch", "safetensors", "json", "jsonl", "csv", "png"]


# --- MNIST


def put(root, names, content=None):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in names:
        original = originals.cache_folder() / "MNIST" / "raw" / name
        (raw / name).write_bytes(original.read_bytes() if content is None else content)
    return raw


@pytest.fixture(scope="module", autouse=True)
def _unpacked():
    for train in (True, False):
        load_mnist(train=train)


@pytest.mark.parametrize("train", [True, False])
def test_another_data_set_under_the_names_of_mnist_is_refused_and_stays(train, tmp_path):
    put(tmp_path, NAMES, b"Fashion")
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match=r"root must hold the original MNIST .* another data set"):
        load_mnist(train=train, root=tmp_path)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("odd", NAMES)
def test_half_of_mnist_is_not_put_beside_another_set(odd, tmp_path):
    put(tmp_path, [odd], b"Fashion")
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match=odd):
        load_mnist(train=odd.startswith("t10k"), root=tmp_path)
    assert state_of(tmp_path) == before


def test_a_truncated_file_in_a_folder_of_the_user_cannot_be_told_from_another_and_stays(tmp_path):
    raw = put(tmp_path, TEST_NAMES)
    (raw / TEST_NAMES[0]).write_bytes((raw / TEST_NAMES[0]).read_bytes()[:100])
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match="or damaged; nothing was changed; name another folder"):
        load_mnist(train=False, root=tmp_path)
    assert state_of(tmp_path) == before


def test_what_is_right_is_read_and_only_what_is_asked_for_is_looked_at(tmp_path):
    raw = put(tmp_path, TEST_NAMES)
    put(tmp_path, ["train-images-idx3-ubyte"], b"Fashion")
    before = state_of(tmp_path)
    assert load_mnist(train=False, root=tmp_path).labels[:3].tolist() == [7, 2, 1]
    assert state_of(tmp_path) == before
    (raw / "train-images-idx3-ubyte").unlink()
    load_mnist(train=False, root=f"{tmp_path}/")
    assert sorted(state_of(raw)) == TEST_NAMES


def test_an_empty_folder_is_filled_with_no_more_than_what_was_asked_for(tmp_path):
    load_mnist(train=False, root=tmp_path / "new")
    assert sorted(state_of(tmp_path / "new" / "MNIST" / "raw")) == TEST_NAMES


def test_files_that_are_read_are_those_that_torchvision_reads(tmp_path):
    from torchvision.datasets import MNIST

    put(tmp_path, NAMES)
    theirs, ours = MNIST(tmp_path, train=False), load_mnist(train=False, root=tmp_path)
    assert torch.equal(ours.images, theirs.data.unsqueeze(1).float() / 255)
    assert torch.equal(ours.labels, theirs.targets)


@pytest.mark.parametrize("kind", ["folder", "leads nowhere", "leads to another file"])
def test_what_stands_where_a_file_of_mnist_would_is_refused(kind, tmp_path):
    raw = put(tmp_path / "data", [])
    if kind == "folder":  # as some archives unpack
        (raw / TEST_NAMES[0]).mkdir()
    else:
        (tmp_path / "mine").write_bytes(b"mine")
        aim = "mine" if kind == "leads to another file" else "nowhere"
        (raw / TEST_NAMES[0]).symlink_to(tmp_path / aim)
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match=TEST_NAMES[0]):
        load_mnist(train=False, root=tmp_path / "data")
    assert state_of(tmp_path) == before


def test_links_to_mnist_are_read_and_stay_links(tmp_path):
    raw = put(tmp_path / "store", TEST_NAMES)
    (tmp_path / "data" / "MNIST").mkdir(parents=True)
    (tmp_path / "data" / "MNIST" / "raw").symlink_to(raw)
    assert len(load_mnist(train=False, root=tmp_path / "data")) == 10_000
    assert (tmp_path / "data" / "MNIST" / "raw").is_symlink()


def test_a_cache_that_the_user_names_is_the_users_and_its_own_cache_is_repaired(
    tmp_path, monkeypatch
):
    put(tmp_path / "named", TEST_NAMES, b"Fashion")
    put(tmp_path / "snnlib", TEST_NAMES, b"half-written")
    before = state_of(tmp_path / "named")
    monkeypatch.setenv("SNNLIB_CACHE", str(tmp_path / "named"))
    with pytest.raises(ValueError, match="SNNLIB_CACHE must hold the original MNIST"):
        load_mnist(train=False)
    assert state_of(tmp_path / "named") == before
    monkeypatch.delenv("SNNLIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(load_mnist(train=False)) == 10_000


def test_the_data_folder_of_the_command_line_is_a_place_of_the_user(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    put(tmp_path / "fashion", NAMES, b"Fashion")
    before = state_of(tmp_path)
    for flag in ("-data-dir", "--data-dir"):
        assert main(["train", "fc", *QUICK, flag, "fashion"]) == 1
        out, err = capsys.readouterr()
        assert "snnlib: --data-dir must hold the original MNIST" in err
        assert (err.count("\n"), "epoch 1/" in out) == (1, False)
    assert state_of(tmp_path) == before
    assert dict(os.environ) == environment


def test_a_data_folder_that_is_a_file_is_refused_by_its_flag(tmp_path, capsys):
    (tmp_path / "notes").write_text("mine")
    words = ["train", "fc", *QUICK, "--out-dir", str(tmp_path / "runs")]
    assert main([*words, "-data-dir", str(tmp_path / "notes")]) == 1
    assert "snnlib: --data-dir must be a folder that can be written" in capsys.readouterr().err
    assert state_of(tmp_path) == {"notes": b"mine"}


def test_a_run_on_a_data_folder_is_the_run_on_the_cache(tmp_path):
    for folder, more in (("a", []), ("b", ["-data-dir", str(tmp_path / "data")])):
        assert main(["train", "fc", *QUICK, "-out-dir", str(tmp_path / folder), *more]) == 0
    (ours,), (theirs,) = (read_ledger(tmp_path / x / "ledger.jsonl") for x in "ab")
    for epoch in (*ours.history, *theirs.history):
        for counts in (epoch["training"], epoch["test"]):
            counts["seconds"] = 0
    assert ours.history == theirs.history
    assert ours.data_source == theirs.data_source
    assert sorted(state_of(tmp_path / "data" / "MNIST" / "raw")) == NAMES


# --- what a path means


def test_a_path_may_be_a_text_bytes_or_a_path_and_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    for value in ("~/runs/a.ckpt", b"~/runs/a.ckpt", Path("~/runs/a.ckpt")):
        assert named_path("checkpoint", value) == Path("/home/anna/runs/a.ckpt")
    assert named_path("root", "data/", folder=True) == Path("data")
    assert named_path("root", "./a~b", folder=True) == Path("a~b")


@pytest.mark.parametrize("value", ["", " ", "a\0b", "runs/", None, 5, True, ["a"]])
def test_what_names_no_file_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"checkpoint must be the name of a file, got"):
        named_path("checkpoint", value)


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="root must be the name of a folder, got ''"):
        load_mnist(train=False, root="")
    assert state_of(tmp_path) == {}


@pytest.mark.parametrize(
    "flag", ["--out-dir", "--ledger", "-resume", "--data-dir", "--tensorboard"]
)
def test_a_flag_with_an_empty_name_is_refused(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "fc", *QUICK, flag, ""]) == 1
    assert f"{flag} must be the name of a fo" in capsys.readouterr().err.replace("file", "fo")
    assert state_of(tmp_path) == {}


def test_no_folder_called_tilde_is_made(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    words = ["--out-dir=~/runs", "--ledger=~/l.jsonl", "--data-dir=~/d", "--tensorboard=~/tb"]
    assert main(["train", "fc", *QUICK, *words]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    made = sorted(path.name for path in (tmp_path / "home").iterdir())
    assert made == ["d", "l.jsonl", "runs", "tb"]


# --- checkpoints and weights


@pytest.mark.parametrize("config", [FC, FF], ids=["spiking", "forward-forward"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_run_replaces_no_file_of_another_kind(kind, config, tmp_path):
    for argument in ("checkpoint", "weights"):
        place = tmp_path / argument / "thesis"
        make_foreign(place, kind)
        before = state_of(tmp_path)
        with pytest.raises(ValueError, match=f"{argument} must name a"):
            run_experiment(config, **{argument: place}, **IMAGES)
        assert state_of(tmp_path) == before


def test_a_row_of_the_post_replaces_no_file_of_another_kind(tmp_path):
    make_foreign(tmp_path / "model.safetensors", "safetensors")
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match="weights must name a new file or weights of snnlib"):
        run_experiment(TOY_ROW, weights=tmp_path / "model.safetensors", **IMAGES)
    assert state_of(tmp_path) == before


def test_a_checkpoint_is_no_place_for_weights_nor_weights_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "a", {"history": [1]})
    save_weights(tmp_path / "b", {"w": torch.ones(2)})
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match="weights must name a new file"):
        run_experiment(FC, weights=tmp_path / "a", **IMAGES)
    with pytest.raises(ValueError, match="checkpoint must name a new file"):
        run_experiment(FC, checkpoint=tmp_path / "b", **IMAGES)
    with pytest.raises(ValueError, match="weights and checkpoint must name two files"):
        run_experiment(FC, checkpoint=tmp_path / "c", weights=tmp_path / "c", **IMAGES)
    with pytest.raises(ValueError, match="weights and the older checkpoint must name two files"):
        run_experiment(FC, checkpoint=tmp_path / "a", weights=tmp_path / "a.old", **IMAGES)
    for save in (save_checkpoint, save_weights):
        with pytest.raises(ValueError, match="path must name a new file"):
            save(tmp_path / ("b" if save is save_checkpoint else "a"), {"w": torch.ones(2)})
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("argument", ["checkpoint", "weights"])
def test_the_name_under_which_the_older_one_is_kept_may_be_taken(argument, tmp_path):
    place = tmp_path / "run"
    run_experiment(FC, **{argument: place}, **IMAGES)
    make_foreign(tmp_path / "run.old", "csv")
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match=r"must name a new file or .*run\.old, which is damaged"):
        run_experiment(FC, **{argument: place}, **IMAGES)
    assert state_of(tmp_path) == before


def test_going_on_from_a_checkpoint_needs_no_second_name(tmp_path):
    place = tmp_path / "run"
    run_experiment(FC, checkpoint=place, **IMAGES)
    make_foreign(tmp_path / "run.old", "csv")
    run_experiment(FC, checkpoint=place, resume=place, **IMAGES)
    assert (tmp_path / "run.old").read_text().startswith("epoch,loss")


@pytest.mark.parametrize("config", [FC, FF, TOY_ROW], ids=["spiking", "forward-forward", "post"])
def test_weights_of_an_earlier_run_are_kept_under_another_name(config, tmp_path):
    place = tmp_path / "w.safetensors"
    first = run_experiment(config, weights=place, **IMAGES)
    before = place.read_bytes()
    second = run_experiment(config, weights=place, **IMAGES)
    assert older_name(place).read_bytes() == before
    assert load_weights(older_name(place))[1] == first.id
    assert load_weights(place)[1] == second.id


def test_saving_the_same_run_again_pushes_nothing_out(tmp_path):
    place = tmp_path / "w"
    for record_id, value in (("a", 1.0), ("b", 2.0), ("b", 3.0)):
        save_weights(place, {"w": torch.tensor([value])}, record_id=record_id)
    assert load_weights(tmp_path / "w.old")[0]["w"] == 1.0
    assert load_weights(place)[0]["w"] == 3.0


def test_a_checkpoint_of_the_users_own_states_is_kept_too(tmp_path):
    save_checkpoint(tmp_path / "run", {"mine": 1})  # has no history
    run_experiment(FC, checkpoint=tmp_path / "run", **IMAGES)
    assert load_checkpoint(tmp_path / "run.old") == {"mine": 1}


def test_files_are_written_through_links(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("c", "w", "l"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    for _ in range(2):
        record = run_experiment(FC, checkpoint=tmp_path / "c", weights=tmp_path / "w", **IMAGES)
        append_record(record, tmp_path / "l")
    assert all((tmp_path / name).is_symlink() for name in ("c", "w", "l"))
    assert sorted(state_of(tmp_path / "disk")) == ["c", "c.old", "l", "w", "w.old"]
    assert len(read_ledger(tmp_path / "disk" / "l")) == 2
    assert load_weights(tmp_path / "w")[1] == record.id


@pytest.mark.parametrize("argument", ["checkpoint", "weights"])
def test_a_link_to_a_disk_that_is_not_there_is_refused(argument, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match=f"{argument} must name a place that can be written to"):
        run_experiment(FC, **{argument: tmp_path / "link"}, **IMAGES)
    assert state_of(tmp_path) == before


def test_an_empty_file_may_be_used(tmp_path):
    (tmp_path / "c").touch()
    (tmp_path / "w").touch()
    run_experiment(FC, checkpoint=tmp_path / "c", weights=tmp_path / "w", **IMAGES)
    assert len(load_checkpoint(tmp_path / "c")["history"]) == 1
    assert sorted(state_of(tmp_path)) == ["c", "w"]


def test_a_name_too_long_for_the_disk_is_refused_before_the_training(tmp_path):
    # 250 bytes are a name, but leave no room for the one under which it is begun.
    longest, said = tmp_path / ("w" * 250), "weights must name a place that can be written to"
    for place in (longest, tmp_path / ("f" * 300) / "w", "d/" * 3000 + "w"):
        too_long = "weights must be the name of a file.* longer than the system allows"
        with pytest.raises(ValueError, match=said if place == longest else too_long):
            run_experiment(FC, weights=place, **IMAGES)
    assert state_of(tmp_path) == {}


@pytest.mark.parametrize("name", ["f" * 256, "\u00e9" * 128, "a/" * 3000])
def test_a_name_longer_than_the_system_allows_is_refused_by_whoever_reads_it(name, capsys):
    for read, argument in ((load_weights, "path"), (read_ledger, "path"), (read_bench, "path")):
        with pytest.raises(ValueError, match=f"{argument} must be the name of a file, got "):
            read(f"{name}z")
    with pytest.raises(ValueError, match="root must be the name of a folder, got "):
        load_mnist(train=False, root=name)
    for flag in ("--out-dir", "--ledger", "--data-dir", "-resume", "--tensorboard"):
        assert main(["train", "fc", *QUICK, flag, f"{name}z"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"snnlib: {flag} must be the name of a ")
        assert said.endswith("; it is longer than the system allows\n")
    assert named_path("root", "f" * 255) == Path("f" * 255)


def test_a_home_folder_of_nobody_is_no_folder_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "fc", *QUICK, "--out-dir", "~nobody-of-that-name/runs"]
    assert main(words) == 1
    cure = "there is no such home folder; what is so called here is ./~nobody-of-that-name/runs"
    said = capsys.readouterr().err
    told = "--out-dir must be the name of a folder, got '~nobody-of-that-name/runs'"
    assert said == f"snnlib: {told}; {cure}\n"
    with pytest.raises(ValueError, match="weights must be the name of a file, got '~nobody-"):
        run_experiment(FC, weights="~nobody-of-that-name", **IMAGES)
    assert list(tmp_path.iterdir()) == []
    assert named_path("root", "./~nobody-of-that-name") == Path("~nobody-of-that-name")


def test_a_device_is_no_place_for_a_file():
    with pytest.raises(ValueError, match="checkpoint must name a place that can be written to"):
        run_experiment(FC, checkpoint=os.devnull, **IMAGES)
    with pytest.raises(ValueError, match="path must name a new file"):
        save_checkpoint(os.devnull, {})


def test_a_file_keeps_its_permissions(tmp_path):
    place = tmp_path / "run"
    save_checkpoint(place, {"epoch": 1})
    place.chmod(0o600)
    save_checkpoint(place, {"epoch": 2})
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["c", "c.old", "w", "w.old", "l"])
def test_what_its_owner_has_protected_is_not_replaced(name, tmp_path):
    def run():
        places = {"checkpoint": tmp_path / "c", "weights": tmp_path / "w"}
        append_record(run_experiment(FC, **places, **IMAGES), tmp_path / "l")

    run()
    run()
    (tmp_path / name).chmod(0o444)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError, match=rf"must name a .*written.*{name}"):
        run()
    assert (tmp_path / name).read_bytes() == before
    for save in (save_weights, save_checkpoint):
        with pytest.raises(ValueError, match="path must name a"):
            save(tmp_path / name, {"w": torch.ones(1)})
    assert (tmp_path / name).read_bytes() == before


def test_a_refused_run_leaves_no_empty_folders(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match="weights must name a new file"):
        run_experiment(
            FC, checkpoint=tmp_path / "a" / "b" / "c", weights=tmp_path / "notes", **IMAGES
        )
    with pytest.raises(ValueError, match="batch_size must not exceed"):
        run_experiment(
            replace(FC, batch_size=1000), checkpoint=tmp_path / "a" / "b" / "c", **IMAGES
        )
    assert sorted(state_of(tmp_path)) == ["notes"]


def test_weights_in_a_folder_of_the_user_are_overwritten_only_if_they_are_ours(tmp_path):
    record = run_experiment(FC, weights=tmp_path / "w", **IMAGES)
    append_record(record, tmp_path / "ledger.jsonl")
    places = {"ledger": tmp_path / "ledger.jsonl", "test_images": IMAGES["test_images"]}
    make_foreign(tmp_path / "kept" / "fc.safetensors", "safetensors")
    (tmp_path / "source").mkdir()
    (tmp_path / "w").rename(tmp_path / "source" / "fc.safetensors")
    before = state_of(tmp_path)
    for folder, match in (
        ("kept", "folder must name a new file or weights of snnlib"),
        ("source", "the file kept and source must name two files"),
    ):
        with pytest.raises(ValueError, match=match):
            keep_weights(
                tmp_path / "source" / "fc.safetensors",
                folder=tmp_path / folder,
                overwrite=True,
                **places,
            )
    assert state_of(tmp_path) == before


# --- the ledger, the command line, the figures


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_record_is_added_to_a_file_that_is_no_ledger(kind, tmp_path, capsys):
    place = tmp_path / "notes.txt"
    make_foreign(place, kind)
    before = state_of(tmp_path)
    words = ["train", "fc", *QUICK, "--out-dir", str(tmp_path / "runs"), "--ledger", str(place)]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "--ledger must name a" in err
    assert (err.count("\n"), "epoch 1/" in out) == (1, False)
    with pytest.raises(ValueError, match="path must name a new file or a ledger of snnlib"):
        append_record(read_ledger()[0], place)
    assert state_of(tmp_path) == before


def test_a_ledger_of_another_version_or_with_a_torn_line_is_one(tmp_path):
    place = tmp_path / "l.jsonl"
    record = read_ledger()[0]
    later = json.dumps({**record.to_dict(), "schema_version": 99, "mood": "good"})
    for before in (later + "\n", '{"id": "torn\n' + later):
        place.write_text(before)
        append_record(record, place)
        assert place.read_text().startswith(before)
        assert RunRecord.from_dict(json.loads(place.read_text().splitlines()[-1])) == record


@pytest.mark.parametrize("name", ["fc-post-s0.ckpt", "fc-post-s0.safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_command_line_replaces_no_file_of_another_kind(name, kind, tmp_path, capsys):
    make_foreign(tmp_path / name, kind)
    before = state_of(tmp_path)
    assert main(["train", "fc", *QUICK, "-save-model", "--out-dir", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "--out-dir must name a" in err
    assert (err.count("\n"), "epoch 1/" in out) == (1, False)
    assert state_of(tmp_path) == before


def test_ledger_and_checkpoint_are_two_files(tmp_path, capsys):
    words = ["train", "fc", *QUICK, "--out-dir", str(tmp_path)]
    assert main([*words, "--ledger", str(tmp_path / "fc-post-s0.ckpt")]) == 1
    assert "the checkpoint and --ledger must name two files" in capsys.readouterr().err
    assert state_of(tmp_path) == {}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_reproduce_looks_at_all_places_first_and_keeps_a_finished_run_of_train(
    jobs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(PRESETS, "fc", replace(FC, limit=60, test_limit=20))
    monkeypatch.setitem(PRESETS, "fc-ce", replace(FC, name="fc-ce", limit=60, test_limit=20))
    words = ["reproduce", "mse-vs-ce", "--save-model", "--out-dir", str(tmp_path / "runs")]
    words += ["--ledger", str(tmp_path / "l.jsonl"), "--jobs", jobs]
    make_foreign(tmp_path / "runs" / "fc-ce-honest-s0.safetensors", "safetensors")
    before = state_of(tmp_path)
    assert main(words) == 1
    assert "fc-ce-honest-s0.safetensors" in capsys.readouterr().err
    assert state_of(tmp_path) == before
    if jobs == "2":  # processes of their own would train the true presets
        return
    (tmp_path / "runs" / "fc-ce-honest-s0.safetensors").unlink()
    (tmp_path / "runs" / "fc-ce-honest-s0.ckpt").symlink_to(tmp_path / "on another disk")
    train = ["train", "fc", "--protocol", "honest", "--out-dir", str(tmp_path / "runs")]
    assert main(train) == 0
    assert main(words) == 0
    left = sorted((path.name, path.exists()) for path in tmp_path.rglob("*.ckpt"))
    assert left == [("fc-ce-honest-s0.ckpt", False), ("fc-honest-s0.ckpt", True)]
    assert len(read_ledger(tmp_path / "l.jsonl")) == 2


def test_a_file_is_no_folder_for_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["train", "fc", *QUICK, "--tensorboard", "notes.txt"]) == 1
    assert "--tensorboard must name a place that can be written" in capsys.readouterr().err
    assert state_of(tmp_path) == {"notes.txt": b"mine"}


def test_curves_are_added_to_a_folder_and_replace_no_file(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="log_dir must name a place that can be written to"):
        tensorboard_writer(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="log_dir must be the name of a folder, got ''"):
        tensorboard_writer("")
    write = tensorboard_writer(tmp_path / "curves")
    assert sorted(state_of(tmp_path)) == ["notes.txt"]  # a refused run leaves nothing
    for number in (1, 2):
        write(Epoch(number, EpochMetrics(0.1, 1, 2, 1.0), {}))
    assert len(list((tmp_path / "curves").iterdir())) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_benchmark_replaces_no_file_of_another_kind(kind, tmp_path, monkeypatch):
    def measure(*words, **options):
        raise AssertionError("nothing is measured")

    make_foreign(tmp_path / "data.json", kind)
    before = state_of(tmp_path)
    monkeypatch.setattr(subprocess, "run", measure)
    monkeypatch.setattr(sys, "argv", ["run.py", "--json", str(tmp_path / "data.json")])
    with pytest.raises(SystemExit, match="--json must name a"):
        runpy.run_path(str(ROOT / "bench" / "run.py"), run_name="__main__")
    assert state_of(tmp_path) == before


# --- the checks themselves


def test_a_new_place_is_tried_and_left_as_it_was(tmp_path):
    check_writable("--out-dir", tmp_path / "a" / "b" / "run.ckpt")
    check_apart({"one": tmp_path / "a", "two": tmp_path / "b", "none": None})
    assert state_of(tmp_path) == {}
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="two and one must name two files"):
        check_apart({"one": tmp_path / "a", "two": tmp_path / "link"})


def test_a_write_that_fails_leaves_the_older_file_and_no_other(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(name):
        Path(name).write_text("half")
        raise RuntimeError("writing failed")

    with pytest.raises(OSError, match="the older file of that name is kept"):
        write_whole(tmp_path / "a", fail, keep_old=True)
    assert state_of(tmp_path) == {"a": b"old"}


def test_a_folder_that_is_only_read_is_enough_for_images_and_not_for_weights(tmp_path):
    raw = put(tmp_path, TEST_NAMES)
    raw.chmod(0o555)
    if os.access(raw, os.W_OK):
        pytest.skip("this user may write everywhere")
    try:
        assert len(load_mnist(train=False, root=tmp_path)) == 10_000
        with pytest.raises(ValueError, match="weights must name a place that can be written to"):
            run_experiment(FC, weights=raw / "w", **IMAGES)
        with pytest.raises(OSError, match="root must be a folder that can be written"):
            load_mnist(train=True, root=tmp_path)
    finally:
        raw.chmod(0o755)


def test_the_packaged_ledger_is_a_ledger():
    check_writable("--ledger", ledger_path())


def test_an_address_of_a_place_elsewhere_is_no_folder_of_that_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for flag in ("--out-dir", "--ledger", "--data-dir", "-resume"):
        assert main(["train", "fc", *QUICK, flag, "s3://bucket/runs"]) == 1
        said = capsys.readouterr().err
        assert f"{flag} must be the name of a" in said
        assert "'s3://bucket/runs'; only places on this machine" in said
    with pytest.raises(ValueError, match=r"checkpoint must be .*got 'https://host/fc.ckpt'"):
        run_experiment(FC, checkpoint="https://host/fc.ckpt", **IMAGES)
    with pytest.raises(ValueError, match="root must be"):
        load_mnist(train=False, root="gs://bucket")
    assert list(tmp_path.iterdir()) == []
    assert named_path("root", "C://runs", folder=True) == Path("C://runs")  # a drive of Windows


def test_a_store_that_tensorboard_does_not_reach_is_refused_before_training(tmp_path, capsys):
    words = ["train", "fc", *QUICK, "--out-dir", str(tmp_path), "--tensorboard", "nosuch://place"]
    assert main(words) == 1
    told = capsys.readouterr()
    assert "log_dir must be a store that TensorBoard can write to, got 'nosuch://place'" in told.err
    assert "epoch 1" not in told.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [5, None, True, [], b""])
def test_a_folder_for_tensorboard_that_is_no_path_is_refused_by_name(value):
    with pytest.raises(ValueError, match="log_dir must be the name of a folder, got"):
        tensorboard_writer(value)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are UTF-8")
def test_a_name_that_is_no_utf_8_is_refused_before_training_or_works(tmp_path):
    place = os.fsencode(tmp_path) + b"/caf\xe9"
    words = ["train", "fc", *QUICK, "--out-dir", place]
    command = [sys.executable, "-m", "snnlib"]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "--out-dir must be a place whose name is UTF-8" in done.stderr
    assert "epoch 1" not in done.stdout
    with pytest.raises(ValueError, match="weights must be a place whose name is UTF-8"):
        run_experiment(FC, weights=place + b".safetensors", **IMAGES)
    with pytest.raises(ValueError, match="log_dir must be a place whose name is UTF-8"):
        tensorboard_writer(place)
    with pytest.raises(ValueError, match="root must be the name of a folder"):
        load_mnist(train=False, root="\ud800")  # not even bytes
    assert list(tmp_path.iterdir()) == []
    words = [*words[:-1], str(tmp_path / "runs"), "--ledger", place + b".jsonl"]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("caf\\udce9.jsonl")
    assert len(read_ledger(place + b".jsonl")) == 1


def test_a_link_that_leads_to_itself_is_refused_before_training(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path / ("b" if name == "a" else "a"))
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match="--ledger must name a place that can be written to"):
        check_writable("--ledger", tmp_path / "a")
    assert state_of(tmp_path) == before


def test_stored_weights_are_looked_for_where_every_other_path_leads(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    record = run_experiment(FC, weights=tmp_path / "runs" / "mine.safetensors", **IMAGES)
    append_record(record, tmp_path / "runs" / "ledger.jsonl")
    append_record(record, tmp_path / "other.jsonl")
    for folder in ("~/runs", os.fsencode(tmp_path / "runs"), tmp_path / "runs"):
        assert load_stored("mine", folder=folder)[1] == record
        assert load_stored("mine", folder=folder, ledger="~/other.jsonl")[1] == record
    for folder in ("", 5, tmp_path / "empty", "s3://bucket"):
        with pytest.raises(ValueError, match="folder must be"):
            load_stored("mine", folder=folder)
    for ledger in ("", 5, tmp_path):
        with pytest.raises(ValueError, match="ledger must be"):
            load_stored("mine", folder="~/runs", ledger=ledger)


def test_a_folder_is_neither_a_ledger_nor_figures(tmp_path):
    for read in (read_ledger, read_bench):
        with pytest.raises(ValueError, match="path must be"):
            read(tmp_path)


def test_weights_are_kept_where_every_other_path_leads(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    record = run_experiment(FC, weights=tmp_path / "mine.safetensors", **IMAGES)
    append_record(record, tmp_path / "runs.jsonl")
    places = dict(ledger="~/runs.jsonl", test_images=IMAGES["test_images"])
    for folder in ("", 5, "s3://bucket", "~nobody-of-that-name"):
        with pytest.raises(ValueError, match="folder must be the name of a folder, got"):
            keep_weights("~/mine.safetensors", folder=folder, **places)
    for name in ("home", "bytes"):
        folder = f"~/{name}" if name == "home" else os.fsencode(tmp_path / name)
        path, _ = keep_weights(os.fsencode(tmp_path / "mine.safetensors"), folder=folder, **places)
        assert path == tmp_path / name / f"{record.preset}.safetensors"
        assert path.is_file()
