"""Trained weights that travel inside the package: one file per preset, in float16.

``snnlib/results/weights/PRESET.safetensors`` names the record of the run it comes
from, so whoever loads it knows what was trained, how, and how well it did.
"""

import math
import os
import tempfile
import time
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.files import check_apart, check_writable, named_path
from snnlib.data import ImageSet, load_mnist, make_loader
from snnlib.experiments.bptt_run import LOSSES, stream_seed
from snnlib.experiments.engines import EncoderState, choose_engine, make_network, make_respond
from snnlib.experiments.ff_stored import build, count_hits, predict_images
from snnlib.experiments.own_images import fitting
from snnlib.metrics import EpochMetrics
from snnlib.readout import evaluation_mode, predict
from snnlib.records.checkpoints import WEIGHTS, load_weights, save_weights
from snnlib.records.ledger import RunRecord, read_ledger
from snnlib.records.reproduction import find
from snnlib.settings.presets import ExperimentConfig
from snnlib.training import Respond, evaluate

MAX_BYTES = 8_000_000  # of one file; the CSNN with 64 channels takes 6.6 million
MAX_BYTES_IN_ALL = 12_000_000

StrPath = str | os.PathLike[str]


def weights_folder() -> Path:
    """The weights that travel inside the package: ``snnlib/results/weights``."""
    return Path(str(resources.files("snnlib").joinpath("results", "weights")))


def stored_presets(folder: StrPath | None = None) -> dict[str, Path]:
    """The presets whose weights are kept, each with its file."""
    place = weights_folder() if folder is None else named_path("folder", folder, folder=True)
    return {path.stem: path for path in sorted(place.glob("*.safetensors"))}


def load_stored(
    preset: str, folder: StrPath | None = None, ledger: StrPath | None = None
) -> tuple[nn.Module, RunRecord]:
    """A trained network, ready to answer, and the record of the run that made it.

        network, record = load_stored("fc")
        spikes = network(poisson_encode(images, record.settings["n_steps"]))

    What ``snnlib train NAME --save-model`` wrote is read with the name of its file, as in
    ``load_stored("fc-quick-post-s0", folder="runs")``, Forward-Forward networks as well;
    :func:`predict_stored` asks either kind.

    Args:
        preset: Its name, one of :func:`stored_presets`.
        folder: Where the weights are; the package if left out.
        ledger: Where the record is; if left out, ``ledger.jsonl`` in ``folder`` if there is
            one, else the packaged ledger.

    Returns:
        The network of the preset on the CPU, in evaluation mode, and the record.

    Raises:
        ValueError: No weights of that preset are kept (the nearest names are told),
            or the file is damaged, or of another network, or its record is lost.
    """
    stored = stored_presets(folder)
    if not stored:
        checks.refuse("folder", "one that holds weights, NAME.safetensors", folder)
    path = find(preset, stored, "set of stored weights")
    weights, record_id = load_weights(path)
    if not record_id:
        raise ValueError(f"{path} names no record of a run, so nobody knows its network")
    if ledger is None and folder is not None and path.with_name("ledger.jsonl").is_file():
        ledger = path.with_name("ledger.jsonl")
    record = _record(record_id, ledger)
    return _network(weights, record, path), record


def measure(
    network: nn.Module, record: RunRecord, test_images: ImageSet | None = None
) -> EpochMetrics:
    """Test a network again as its record's protocol did, in float32 on the CPU.

    An honest run gets the random numbers of its record, if the same engine drew
    them; a run under the post's protocol gets new ones, since its test came in the
    middle of training. Forward-Forward has no loss on its answers: it is NaN.

    Args:
        network: From :func:`load_stored`.
        record: Its record.
        test_images: All 10,000 MNIST test images if left out.

    Raises:
        ValueError: ``test_images`` are no ``ImageSet``, empty, or of other classes.
    """
    _check_pair(network, record)
    test = fitting("test_images", test_images)
    test = load_mnist(train=False) if test is None else test
    if _is_forward_forward(record):
        begin = time.perf_counter()
        with evaluation_mode(network):
            n_correct = count_hits(network, record, test)
        return EpochMetrics(math.nan, n_correct, len(test), time.perf_counter() - begin)
    config = _settings(record)
    respond = _respond(network, record)
    return evaluate(network, respond, make_loader(test, config.batch_size), LOSSES[config.loss])


@torch.no_grad()
def predict_stored(network: nn.Module, record: RunRecord, images: Any) -> Tensor:
    """The digits that a network from :func:`load_stored` sees, as its run was tested.

    Args:
        network: From :func:`load_stored`.
        record: Its record.
        images: Grey values in [0, 1], ``[N, 1, 28, 28]``.

    Returns:
        Digits ``[N]``, int64.

    Raises:
        ValueError: ``images`` have another shape, or values outside [0, 1].
    """
    shown = _shown(network, record, images)
    if not len(shown):
        return torch.empty(0, dtype=torch.int64)
    if _is_forward_forward(record):
        with evaluation_mode(network):
            return predict_images(network, record, shown)
    return predict(rates_stored(network, record, shown))


@torch.no_grad()
def rates_stored(network: nn.Module, record: RunRecord, images: Any) -> Tensor:
    """How often the output neurons of a network from :func:`load_stored` fire, as in its test.

    Args:
        network: From :func:`load_stored`, but not one of Forward-Forward, whose layers
            have no neuron for each digit.
        record: Its record.
        images: Grey values in [0, 1], ``[N, 1, 28, 28]``.

    Returns:
        Rates ``[N, 10]``, spikes per step; of a membrane readout, its outputs.

    Raises:
        ValueError: ``images`` have another shape, or values outside [0, 1], or the network is
            one of Forward-Forward.
    """
    shown = _shown(network, record, images)
    if _is_forward_forward(record):
        checks.refuse("record", "of a network with ten output neurons", record.preset)
    if not len(shown):
        return torch.empty(0, 10)
    respond, n_at_once = _respond(network, record), _settings(record).batch_size
    with evaluation_mode(network):
        return torch.cat([respond(part) for part in shown.split(n_at_once)])


def _shown(network: nn.Module, record: RunRecord, images: Any) -> Tensor:
    _check_pair(network, record)
    shown = checks.grey_tensor("images", images, torch.float32)
    if shown.dim() != 4 or shown.shape[1:] != (1, 28, 28):
        checks.refuse("images", "[N, 1, 28, 28]", shown)
    return shown


def _check_pair(network: nn.Module, record: RunRecord) -> None:
    checks.instance("network", network, nn.Module)
    checks.instance("record", record, RunRecord)


def _respond(network: nn.Module, record: RunRecord) -> Respond:
    """Answers as at the look at the test images, with the random numbers of the record."""
    config, noise = _settings(record), EncoderState(torch.Generator())
    engine = choose_engine(config, torch.device("cpu"), network)
    respond = make_respond(config, network, noise, engine)
    noise.restart(stream_seed(config.seed, record.result.epoch, "test"))
    return respond


def tolerance(record: RunRecord) -> float:
    """By how much a repeated test accuracy may differ from the recorded one, in [0, 1].

    Half the width of the 95 % interval where the input spikes are random. Where
    nothing is random, a quarter of that: only rounding moves a few close answers.
    """
    half_width = (record.result.high - record.result.low) / 2
    return half_width if record.settings["encoding"] == "poisson" else half_width / 4


def keep_weights(
    source: StrPath,
    record_id: str = "",
    *,
    folder: StrPath | None = None,
    ledger: StrPath | None = None,
    test_images: ImageSet | None = None,
    overwrite: bool = False,
) -> tuple[Path, EpochMetrics]:
    """Keep trained weights in float16, if they are as good as their record says.

    Args:
        source: A safetensors file, say of ``snnlib train --save-model``.
        record_id: Its record; the one named in the file if left out.
        folder: Where to keep it; the package if left out.
        ledger: Where the record is; the packaged ledger if left out.
        test_images: All 10,000 MNIST test images if left out.
        overwrite: Replace weights of the same preset from another run; a file that
            is no weights of ours stays in any case.

    Returns:
        The new file and what its weights reach on the test images.

    Raises:
        ValueError: The record is unknown or another than the file names, the file is
            too large or would replace ``source``, the accuracy is not that of the record,
            or rounding to float16 changes it; nothing is written.
    """
    weights, named = load_weights(source)
    if record_id and named and record_id != named:
        raise ValueError(f"{os.fspath(source)} is of record {named}, not {record_id}")
    record = _record(record_id or named, ledger)
    if _is_forward_forward(record):
        raise ValueError(
            f"record {record.id} is of Forward-Forward, whose weights are not kept here; "
            "load_stored reads them where they are, given folder= and ledger="
        )
    place = weights_folder() if folder is None else named_path("folder", folder, folder=True)
    target = place / f"{record.preset}.safetensors"
    check_apart({"source": named_path("source", source), "the file kept": target})
    check_writable("folder", target, WEIGHTS)
    if target.exists() and not overwrite:
        raise ValueError(f"weights of {record.preset!r} are kept already; overwrite to renew them")
    whole = measure(_network(weights, record, source), record, test_images)
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / target.name
        save_weights(small, weights, record_id=record.id, half=True)
        _check_size(small, target, stored_presets(place))
        halved, _ = load_weights(small)
    kept = measure(_network(halved, record, source), record, test_images)
    _check_accuracy(record, whole, kept)
    save_weights(target, weights, record_id=record.id, half=True, keep_old=False)
    return target, kept


def _record(record_id: str, ledger: StrPath | None) -> RunRecord:
    if not record_id:
        raise ValueError("the file names no record; say which one with record_id")
    if ledger is not None and not named_path("ledger", ledger).is_file():
        checks.refuse("ledger", "a file that is there", ledger)
    known = {record.id: record for record in read_ledger(ledger)}
    if record_id not in known and ledger is None:
        raise ValueError(
            f"there is no record {record_id!r} in the ledger of the package; pass the one that the "
            "run was written to: ledger='runs/ledger.jsonl', or wherever that is"
        )
    try:
        record: RunRecord = find(record_id, known, "record")
    except ValueError as error:
        place = "the ledger of the package" if ledger is None else os.fspath(ledger)
        raise ValueError(f"{error}; the ledger that was read is {place}") from error
    return record


def _is_forward_forward(record: RunRecord) -> bool:
    return "network" not in record.settings


def _settings(record: RunRecord) -> ExperimentConfig:
    """The settings of a recorded run, to be run on the CPU in full precision."""
    names = {f.name for f in fields(ExperimentConfig)}
    known = {name: value for name, value in record.settings.items() if name in names}
    return replace(ExperimentConfig(**known), device="cpu", engine="auto", amp="off")


def _network(weights: dict[str, Tensor], record: RunRecord, path: StrPath) -> nn.Module:
    forward_forward = _is_forward_forward(record)
    network = build(record) if forward_forward else make_network(_settings(record))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        message = f"{os.fspath(path)} does not fit the network of record {record.id}"
        raise ValueError(message) from error
    return network.eval()


def _check_size(small: Path, target: Path, stored: dict[str, Path]) -> None:
    size = small.stat().st_size
    others = sum(path.stat().st_size for path in stored.values() if path != target)
    if size > MAX_BYTES or others + size > MAX_BYTES_IN_ALL:
        raise ValueError(
            f"{target.name} takes {size} bytes, {others + size} with those already kept; allowed "
            f"are {MAX_BYTES} for one and {MAX_BYTES_IN_ALL} in all"
        )


def _check_accuracy(record: RunRecord, whole: EpochMetrics, kept: EpochMetrics) -> None:
    """Refuse weights of another run, and those that float16 changes by more than rounding."""
    allowed = tolerance(record)
    if abs(whole.accuracy - record.result.accuracy) > allowed:
        raise ValueError(
            f"these weights reach {whole.accuracy:.2%}, their record {record.id} says "
            f"{record.result.accuracy:.2%}: more than {allowed:.2%} apart"
        )
    close = (record.result.high - record.result.low) / 8
    if abs(kept.accuracy - whole.accuracy) > close:
        raise ValueError(
            f"float16 moves the accuracy from {whole.accuracy:.2%} to {kept.accuracy:.2%}, "
            f"more than {close:.2%}"
        )
