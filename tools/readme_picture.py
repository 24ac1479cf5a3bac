"""Draw the picture of the README: one image on its way through one layer.

    python tools/readme_picture.py

Nothing is trained here: the weights are class means minus the overall mean.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from snnlib.data import load_mnist
from snnlib.encoding import poisson_encode
from snnlib.neurons import LIFParameters, simulate

ROOT = Path(__file__).resolve().parent.parent
N_STEPS = 40
COLUMN = 14


def template_weights() -> torch.Tensor:
    """Give [10, 784] weights: how each digit's mean differs from all digits' mean."""
    training = load_mnist(train=True, limit=5000)
    pixels = training.images.flatten(1)
    means = torch.stack([pixels[training.labels == k].mean(0) for k in range(10)])
    apart = means - means.mean(0)
    return 0.6 * apart / apart.norm(dim=1, keepdim=True)


def charge_and_reset(charged: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give times and potentials in which each step shows both, before and after firing."""
    times = torch.arange(len(v)).repeat_interleave(2)
    return times, torch.stack([charged, v], dim=1).flatten()


def main() -> None:
    """Write ``book/_static/one-image.png``."""
    test = load_mnist(train=False, limit=100)
    index = int((test.labels == 3).nonzero()[0])
    image, label = test.images[index : index + 1], int(test.labels[index])
    spikes = poisson_encode(image, N_STEPS, generator=torch.Generator().manual_seed(1))
    trace = simulate(spikes.flatten(2) @ template_weights().T, LIFParameters(tau=4.0))

    figure, axes = plt.subplots(1, 4, figsize=(12, 2.9), layout="constrained", dpi=110)
    axes[0].imshow(image[0, 0], cmap="gray_r")
    axes[0].set(title="a test image", xticks=[], yticks=[])
    axes[0].axvline(COLUMN, color="#D55E00", linewidth=1)
    step, row = spikes[:, 0, 0, :, COLUMN].nonzero(as_tuple=True)
    axes[1].scatter(step, row, s=5, marker="|", color="black")
    axes[1].set(title="spikes of the marked column", xlabel="time (steps)", ylabel="row")
    axes[1].set_ylim(27.5, -0.5)
    axes[2].plot(*charge_and_reset(trace.charged[:, 0, label], trace.v[:, 0, label]), linewidth=1)
    axes[2].axhline(1.0, color="#D55E00", linestyle="--", linewidth=1)
    axes[2].set(title=f"neuron {label} charges and fires", xlabel="time (steps)")
    axes[2].set_ylabel("membrane potential")
    rates = trace.spikes[:, 0].mean(0)
    colours = ["#D55E00" if k == label else "#0072B2" for k in range(10)]
    axes[3].bar(range(10), rates, color=colours)
    axes[3].set(title="rates of the ten neurons", xlabel="digit", xticks=range(10))
    axes[3].set_ylabel("spikes per step")
    figure.savefig(ROOT / "book" / "_static" / "one-image.png")


if __name__ == "__main__":
    main()
