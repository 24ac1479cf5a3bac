"""Trained weights that travel inside the package: one file per preset, in float16.

``snnlib/results/weights/PRESET.safetensors`` names the record of the run it comes
from, so whoever loads it knows what was trained, how, and how well it did.
"""

import os
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnlib import checks
from snnlib.checks.files import named_path
from snnlib.experiments.bptt_run import stream_seed
from snnlib.experiments.engines import EncoderState, choose_engine, make_network, make_respond
from snnlib.experiments.ff_stored import build, predict_images
from snnlib.readout import evaluation_mode, predict
from snnlib.records.checkpoints import load_weights
from snnlib.records.ledger import read_ledger
from snnlib.records.record import RunRecord
from snnlib.records.reproduction import find
from snnlib.settings.experiment import ExperimentConfig
from snnlib.training import Respond

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
    record = recorded(record_id, ledger)
    return trained_network(weights, record, path), record


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
    checks.instance("network", network, nn.Module)
    checks.instance("record", record, RunRecord)
    shown = checks.grey_tensor("images", images, torch.float32)
    if shown.dim() != 4 or shown.shape[1:] != (1, 28, 28):
        checks.refuse("images", "[N, 1, 28, 28]", shown)
    return shown


def _respond(network: nn.Module, record: RunRecord) -> Respond:
    """Answers as at the look at the test images, with the random numbers of the record."""
    config, noise = _settings(record), EncoderState(torch.Generator())
    engine = choose_engine(config, torch.device("cpu"), network)
    respond = make_respond(config, network, noise, engine)
    noise.restart(stream_seed(config.seed, record.result.epoch, "test"))
    return respond


def recorded(record_id: str, ledger: StrPath | None = None) -> RunRecord:
    """The record of that id in a ledger, the packaged one if left out.

    Raises:
        ValueError: There is none, or no such ledger.
    """
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


def trained_network(weights: dict[str, Tensor], record: RunRecord, path: StrPath) -> nn.Module:
    """The network of a record with weights read from ``path``, on the CPU, ready to answer.

    Raises:
        ValueError: They are the weights of another network.
    """
    forward_forward = _is_forward_forward(record)
    network = build(record) if forward_forward else make_network(_settings(record))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        message = f"{os.fspath(path)} does not fit the network of record {record.id}"
        raise ValueError(message) from error
    return network.eval()
