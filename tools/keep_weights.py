"""Keep the weights of a recorded run inside the package, in half precision.

    python tools/keep_weights.py runs/csnn-best-honest-s0.safetensors
    python tools/keep_weights.py WEIGHTS --record RECORD_ID --overwrite

The weights are tested on all test images before and after rounding to float16.
Nothing is written if the accuracy is not that of the record, or the file is too
large. ``tests/test_keep_weights.py`` repeats the test.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from torch import nn

from snnlib.checks.files import check_apart, check_writable, named_path
from snnlib.data import ImageSet, load_mnist
from snnlib.experiments.stored_weights import (
    StrPath,
    predict_stored,
    recorded,
    stored_presets,
    trained_network,
    weights_folder,
)
from snnlib.records.checkpoints import WEIGHTS, load_weights, save_weights
from snnlib.records.record import RunRecord

MAX_BYTES = 8_000_000  # of one file; the CSNN with 64 channels takes 6.6 million
MAX_BYTES_IN_ALL = 12_000_000


def keep_weights(
    source: StrPath,
    record_id: str = "",
    *,
    folder: StrPath | None = None,
    ledger: StrPath | None = None,
    test_images: ImageSet | None = None,
    overwrite: bool = False,
) -> tuple[Path, float]:
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
        The new file and the share of the test images that it gets right, in [0, 1].

    Raises:
        ValueError: The record is unknown or another than the file names, the file is
            too large or would replace ``source``, the accuracy is not that of the record,
            or rounding to float16 changes it; nothing is written.
    """
    weights, named = load_weights(source)
    if record_id and named and record_id != named:
        raise ValueError(f"{os.fspath(source)} is of record {named}, not {record_id}")
    record = recorded(record_id or named, ledger)
    if "network" not in record.settings:
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
    test = load_mnist(train=False) if test_images is None else test_images
    whole = measure(trained_network(weights, record, source), record, test)
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / target.name
        save_weights(small, weights, record_id=record.id, half=True)
        check_size(small, target, stored_presets(place))
        halved, _ = load_weights(small)
    kept = measure(trained_network(halved, record, source), record, test)
    check_accuracy(record, whole, kept)
    save_weights(target, weights, record_id=record.id, half=True, keep_old=False)
    return target, kept


def measure(network: nn.Module, record: RunRecord, test: ImageSet) -> float:
    """The share of test images, in [0, 1], that a network gets right, tested as its record says.

    An honest run gets the random numbers of its record, if the same engine drew
    them; a run under the post's protocol gets new ones, since its test came in the
    middle of training.
    """
    return int((predict_stored(network, record, test.images) == test.labels).sum()) / len(test)


def tolerance(record: RunRecord) -> float:
    """By how much a repeated test accuracy may differ from the recorded one, in [0, 1].

    Half the width of the 95 % interval where the input spikes are random. Where
    nothing is random, a quarter of that: only rounding moves a few close answers.
    """
    half_width = (record.result.high - record.result.low) / 2
    return half_width if record.settings["encoding"] == "poisson" else half_width / 4


def check_size(small: Path, target: Path, stored: dict[str, Path]) -> None:
    """Refuse what is too large for the package, alone or with the others."""
    size = small.stat().st_size
    others = sum(path.stat().st_size for path in stored.values() if path != target)
    if size > MAX_BYTES or others + size > MAX_BYTES_IN_ALL:
        raise ValueError(
            f"{target.name} takes {size} bytes, {others + size} with those already kept; allowed "
            f"are {MAX_BYTES} for one and {MAX_BYTES_IN_ALL} in all"
        )


def check_accuracy(record: RunRecord, whole: float, kept: float) -> None:
    """Refuse weights of another run, and those that float16 changes by more than rounding."""
    allowed = tolerance(record)
    if abs(whole - record.result.accuracy) > allowed:
        raise ValueError(
            f"these weights reach {whole:.2%}, their record {record.id} says "
            f"{record.result.accuracy:.2%}: more than {allowed:.2%} apart"
        )
    close = (record.result.high - record.result.low) / 8
    if abs(kept - whole) > close:
        raise ValueError(
            f"float16 moves the accuracy from {whole:.2%} to {kept:.2%}, more than {close:.2%}"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", help="a file of `snnlib train --save-model`")
    parser.add_argument("--record", default="", help="its record, if the file does not name it")
    parser.add_argument("--overwrite", action="store_true", help="renew weights kept already")
    given = parser.parse_args()
    try:
        path, kept = keep_weights(given.weights, given.record, overwrite=given.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{path}: {path.stat().st_size} bytes, {kept:.2%} of the test images")


if __name__ == "__main__":
    main()
