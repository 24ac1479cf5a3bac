"""Two processes that share a run learn what one process learns; one of them writes."""

import contextlib
import io
import multiprocessing
import os
import socket
from dataclasses import replace

import pytest
import torch
from toys import TINY

from snnlib.cli.main import main
from snnlib.data import ImageSet
from snnlib.experiments import bptt_run as assembly
from snnlib.experiments import distributed
from snnlib.experiments.distributed import Group, joined
from snnlib.experiments.run import make_learner, run_experiment
from snnlib.records.checkpoints import load_checkpoint
from snnlib.records.ledger import read_ledger
from snnlib.settings.ff_presets import FF_PRESETS
from snnlib.settings.presets import PRESETS

# One helper imports torch, and forks what is needed: each pair of processes starts at once.
START = multiprocessing.get_context("forkserver")
PRELOADED = ["snnlib.experiments.run", "snnlib.records.reproduction", "snnlib.fast.events"]
START.set_forkserver_preload(PRELOADED)

SMALL = {"epochs": 3, "batch_size": 40, "device": "cpu"}
FC = replace(PRESETS["fc"], n_steps=20, **SMALL)
FF = {"batch_size": 40, "n_validation": 60, "epochs": 2, "n_steps": 3}  # a last batch of 19
RULES_OF_FF = {
    "ff pairs": {"shift_pixels": 1},
    "ff likely": {"negatives": "likely"},
    "ff every": {"negatives": "every"},
    "ff spikes": {"encoding": "poisson", "pass_on": "spikes"},
    "ff one by one": {"layers_at_once": False},
    "ff two passes": {"rule": "two-pass"},
    "ff neutral head": {"rule": "neutral-head"},
    "ff bptt": {"rule": "bptt"},
}
CONFIGS = {
    # 200 images, and 39 for validation: shares of 20 and 19.
    "events": replace(FC, engine="events", protocol="honest", max_grad_norm=0.01),
    "scan": replace(FC, engine="scan", n_steps=5),
    # A sum as loss, and a last batch of 39.
    "sum": replace(PRESETS["post5"], n_steps=5, drop_last=False, lr=1e-3, **SMALL),
    # A last batch of one image: the second process has nothing to answer.
    "conv": replace(
        PRESETS["small-conv-post"],
        **{**SMALL, "batch_size": 34, "n_steps": 4, "engine": "torch"},
        shift_pixels=1,
        schedule="one_cycle",
    ),
    # Each rule of Forward-Forward, positive and negative images or ten labels, dense or not.
    **{name: replace(TINY, **FF, **changes) for name, changes in RULES_OF_FF.items()},
    # So small a step that the weights stand still.
    "norm": replace(PRESETS["csnn"], channels=2, n_steps=2, lr=1e-12, **{**SMALL, "epochs": 1}),
}


def sets():
    return {"training_images": stripes(239), "test_images": stripes(60)}


def stripes(n_images):
    """A bright stripe on noise; its place tells the class."""
    labels = torch.arange(n_images) % 10
    images = 0.3 * torch.rand(n_images, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label + 4 : 2 * label + 6] += 0.7
    return ImageSet(images, labels, "stripes")


def as_one_of_two(rank, port, answer, function, *words):
    """Run a function as torchrun would run it, and send back what it returns."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    answer.send(function(*words))


def by_two(function, *words):
    """Run a function in two processes; what each returned, or None from one that died."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [START.Pipe(duplex=False) for _ in range(2)]
    processes = [
        START.Process(target=as_one_of_two, args=(rank, port, pipes[rank][1], function, *words))
        for rank in range(2)
    ]
    for process, (_, answer) in zip(processes, pipes, strict=True):
        process.start()
        answer.close()
    answers = [receive(pipe) for pipe, _ in pipes]
    for process in processes:
        process.join(60)
        if process.is_alive():
            process.kill()
    return answers


def receive(pipe):
    try:
        return pipe.recv() if pipe.poll(300) else "no answer in five minutes"
    except EOFError:
        return None


def outcome(group, folder, name, config, **options):
    """The record of a run as a dictionary; what was learnt lies in a checkpoint."""
    path = folder / f"{name}-of-{group.size}.ckpt"
    record = run_experiment(config, checkpoint=path, group=group, **options, **sets())
    return {"result": record.result, "history": record.history, "extra": record.extra}


def whole_runs(folder):
    """What the tests below look at, in one go."""
    with joined("cpu") as group:
        found = {name: outcome(group, folder, name, c) for name, c in CONFIGS.items()}
        begun = folder / "begun-of-2.ckpt"
        outcome(group, folder, "begun", replace(CONFIGS["scan"], epochs=1))
        found["resumed"] = outcome(group, folder, "resumed", CONFIGS["scan"], resume=begun)
        found["refused"] = refusal(group, resume=folder / "damaged.ckpt")
        found["of two"] = refusal(LastFails(group.rank, 2))
        found["diverged"] = sentence_at_the_end(group, replace(CONFIGS["scan"], lr=1e38))
    return found


class LastFails(Group):
    """The last process cannot do what the first can."""

    def check_batch_size(self, batch_size):
        if not self.leads:
            raise OSError("no such folder")


def refusal(group, **options):
    try:
        run_experiment(FC, group=group, **{**sets(), **options})
    except ValueError as error:
        return str(error)


def sentence_at_the_end(group, config):
    try:
        run_experiment(config, group=group, **sets())
    except FloatingPointError as error:
        return str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs")
    (made / "damaged.ckpt").write_bytes(b"hello")
    return made


@pytest.fixture(scope="module")
def pair(folder):
    return by_two(whole_runs, folder)


def weights(path):
    return load_checkpoint(path)["learner"]["network"]


def losses(found):
    return [m["loss"] for epoch in found["history"] for m in epoch.values() if m != epoch["number"]]


def hits(found):
    sets_seen = [m for e in found["history"] for m in e.values() if m != e["number"]]
    return [m["n_correct"] for m in sets_seen]


@pytest.mark.parametrize("name", ["events", "scan", "sum", "conv", *RULES_OF_FF])
def test_two_processes_learn_what_one_learns_from_whole_batches(name, pair, folder):
    alone, together = outcome(Group(), folder, name, CONFIGS[name]), pair[0][name]

    # float32 sums in another order: a few units in the 24th bit, times some steps.
    torch.testing.assert_close(losses(together), losses(alone), rtol=1e-5, atol=0)
    one, two = (weights(folder / f"{name}-of-{n}.ckpt") for n in (1, 2))
    if name in RULES_OF_FF:
        # Adam divides a gradient by its own size: where it is nothing but rounding, a single
        # weight moves by up to the learning rate, and not by the rounding.
        assert all((two[k] - one[k]).norm() < 1e-3 * one[k].norm() for k in one)
    else:
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
    assert hits(together) == hits(alone)
    assert len(set(hits(alone))) > 2  # it moved at all
    assert together["result"] == alone["result"]
    assert together["extra"] == {**alone["extra"], "n_processes": 2}
    assert alone["extra"]["n_processes"] == 1


def test_both_processes_see_the_same_losses_and_hits(pair):
    first, second = pair
    for name in CONFIGS:
        assert losses(first[name]) == losses(second[name])
        assert hits(first[name]) == hits(second[name])


def test_batch_norm_keeps_the_mean_of_all_images_and_the_variance_of_shares(pair, folder):
    outcome(Group(), folder, "norm", CONFIGS["norm"])
    one, two = (weights(folder / f"norm-of-{n}.ckpt") for n in (1, 2))
    mean, variance = "layers.1.running_mean", "layers.1.running_var"
    torch.testing.assert_close(two[mean], one[mean], rtol=1e-4, atol=1e-6)
    # Within shares, images vary less than within the batch; that is little for 20 images.
    assert (two[variance] < one[variance] * (1 + 1e-3)).all()
    assert (two[variance] > one[variance] * 0.9).all()
    assert two["layers.1.num_batches_tracked"] == one["layers.1.num_batches_tracked"] == 5


def test_a_shared_run_resumes_exactly_where_it_was(pair, folder):
    assert losses(pair[0]["resumed"]) == losses(pair[0]["scan"])
    resumed, whole = (weights(folder / f"{n}-of-2.ckpt") for n in ("resumed", "scan"))
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_one_process_goes_on_with_what_two_began(pair, folder):
    begun = folder / "begun-of-2.ckpt"
    alone = outcome(Group(), folder, "taken-over", CONFIGS["scan"], resume=begun)
    torch.testing.assert_close(losses(alone), losses(pair[0]["scan"]), rtol=1e-5, atol=0)


def test_what_one_process_cannot_do_ends_all_with_its_sentence(pair, folder):
    for found in pair:
        assert found["refused"].startswith(f"{folder / 'damaged.ckpt'} is damaged")
        assert found["of two"] == "process 1 of 2: no such folder"


def test_a_run_that_diverges_ends_in_all_processes_with_the_same_sentence(pair):
    assert "layers.1.weight holds" in pair[0]["diverged"]
    assert pair[0]["diverged"] == pair[1]["diverged"]


def train_by_command(folder, batch_size):
    """A shared run of the command line: its exit code, what it printed, and its complaint."""
    assembly.load_mnist = lambda train, limit: stripes(limit)
    small = "--limit 60 --test-limit 20 -T 3 -epochs 1 --engine scan -device cpu -save-model"
    words = ["train", "fc", *small.split(), "-out-dir", str(folder), "-b", batch_size]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def test_one_process_speaks_and_writes(tmp_path):
    # One meeting place for each run, as torchrun has it: on a second run over the same port,
    # a quick process would still find the first one's server and wait there for ever.
    works, quiet = by_two(train_by_command, tmp_path, "20")
    refused, quiet_too = by_two(train_by_command, tmp_path, "21")
    assert works[0] == 0
    assert works[1].count("epoch 1/1") == 1
    assert works[1].count("recorded as") == 1
    assert refused[0] == 1
    assert refused[2] == (
        "snnlib: batch_size must be divisible by the number of processes, 2, got 21\n"
    )
    assert (quiet, quiet_too) == ((0, "", ""), (1, "", ""))
    (record,) = read_ledger(tmp_path / "ledger.jsonl")
    assert record.extra == {"n_processes": 2}
    assert {path.suffix for path in tmp_path.iterdir()} == {".ckpt", ".jsonl", ".safetensors"}


class Dies(Group):
    """A process that is gone after the first batch."""

    def combine(self, network):
        os._exit(1)


def one_dies():
    with joined("cpu") as group:
        try:
            shared = group if group.leads else Dies(1, 2)
            run_experiment(CONFIGS["scan"], group=shared, **sets())
        except ConnectionError as error:
            return str(error)


def test_a_process_that_dies_leaves_no_other_waiting():
    survivor, gone = by_two(one_dies)
    assert survivor.startswith("process 0 of 2 lost another process")
    assert gone is None


@pytest.mark.parametrize("n_images", [1, 2, 7, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_disjoint_and_make_the_whole_batch(n_images, size):
    parts = [Group(rank, size).share(n_images) for rank in range(size)]
    assert [i for part in parts for i in range(n_images)[part]] == list(range(n_images))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_each_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Group(3, 4, local_rank=1).device("auto") == "cuda:1"
    assert Group(3, 4, local_rank=1).device("cpu") == "cpu"
    assert Group().device("cuda:5") == "cuda:5"
    with pytest.raises(ValueError, match="device must be"):
        Group(3, 4, local_rank=1).device("cuda:0")
    with pytest.raises(ValueError, match="nproc-per-node must be at most 1"):
        distributed._backend("auto", 0)


def test_rows_of_the_post_first_layers_that_draw_and_reproduce_stay_in_one_process(
    monkeypatch, capsys
):
    poisson = replace(FF_PRESETS["ff-poisson"], n_validation=60, batch_size=40)
    for config, why in ((FF_PRESETS["ff-8"], "a row of the post"), (poisson, "draws spikes")):
        with pytest.raises(ValueError, match=f"{why}.* runs in one process, got 2"):
            make_learner(config, **sets(), progress=None, group=Group(0, 2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["reproduce", "fc"]) == 1
    assert "--jobs" in capsys.readouterr().err
