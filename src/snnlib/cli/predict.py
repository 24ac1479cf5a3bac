"""What a stored network says about pictures of the user: digits, rates, and what it was shown."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHADES = " .:-=+*#%@"  # from black to white
WIDTH = 20  # of the bar of a neuron that fires at each step


def predictions(options: argparse.Namespace) -> str:
    """The answer of ``snnlib predict``, as text or as a line of JSON per picture.

    Raises:
        OSError: A picture is not there.
        ValueError: One is no picture of a digit, or no such weights are in the package.
    """
    import torch

    from snnlib.experiments.stored_weights import load_stored, rates_stored
    from snnlib.mnist.pictures import read_picture

    images = torch.stack([read_picture(path, "PICTURE") for path in options.pictures])
    network, record = load_stored(options.preset)
    rates = rates_stored(network, record, images).tolist()
    shown = zip(options.pictures, images, rates, strict=True)
    if options.json:
        return "\n".join(_as_json(path, record.preset, rate) for path, _, rate in shown)
    if options.quiet:
        return "\n".join(f"{path}: {verdict(rate)}" for path, _, rate in shown)
    return "\n\n".join(
        "\n".join([f"{path}: {verdict(rate)}", *drawn(image), *bars(rate)])
        for path, image, rate in shown
    )


def verdict(rates: Sequence[float]) -> str:
    """The digit whose neuron fires most; of neurons that fire alike, all digits.

    >>> verdict([0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75, 0.0, 0.5])
    '1 or 7, whose neurons fire alike'
    """
    most = max(rates)
    if most <= 0:
        return "no digit, since no output neuron fires"
    digits = [str(digit) for digit, rate in enumerate(rates) if rate == most]
    return digits[0] if len(digits) == 1 else f"{' or '.join(digits)}, whose neurons fire alike"


def drawn(image: "Tensor") -> list[str]:
    """An image ``[1, 28, 28]`` in letters: two of them side by side for each pixel."""
    levels = (image[0] * (len(SHADES) - 1)).round().long().tolist()
    return ["".join(2 * SHADES[level] for level in row).rstrip() for row in levels]


def bars(rates: Sequence[float]) -> list[str]:
    """A bar per digit, the highest rate first; of equal ones, the lower digit first."""
    order = sorted(range(len(rates)), key=lambda digit: -rates[digit])
    return [f"{d}  {rates[d]:.2f}  {'#' * round(WIDTH * rates[d])}".rstrip() for d in order]


def _as_json(path: str, preset: str, rates: Sequence[float]) -> str:
    digit = max(range(len(rates)), key=rates.__getitem__)  # of equals the first, as everywhere
    return json.dumps({"picture": path, "preset": preset, "digit": digit, "rates": rates})
