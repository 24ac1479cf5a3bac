"""Arrays and records to matplotlib axes; nothing here shows or saves a figure.

Every function draws on the axes it is given (or new ones) and hands them back,
so a chapter can add to them. Colour is never the only signal: lines differ in
style, classes carry their digit.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from snnlib.checks import (
    finite,
    float_tensor,
    image_tensor,
    label_tensor,
    number,
    tensor,
    whole_number,
)

# Okabe & Ito's palette, told apart with every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _array(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    try:
        return values.numpy()
    except TypeError:  # NumPy knows no bfloat16, which float32 holds exactly
        return values.float().numpy()


def _check(fits: object, text: str) -> None:
    if not fits:
        raise ValueError(text)


def plot_potential(
    charged: Tensor,
    spikes: Tensor,
    v_threshold: float,
    ax: Axes | None = None,
    label: str | None = None,
) -> Axes:
    """Draw one neuron's potential with its spikes as triangles above the threshold.

    Args:
        charged: H, ``[T]``: the potential before firing, so that peaks are seen; like all
            values to be drawn here, a tensor or a NumPy array.
        spikes: S, ``[T]``.
        v_threshold: Drawn as a dashed line.
        ax: Where to draw; a new figure if left out.
        label: Name of the trace in a legend.
    """
    v_threshold = number("v_threshold", v_threshold)
    charged = finite("charged", float_tensor("charged", charged))
    spikes = finite("spikes", float_tensor("spikes", spikes))
    _check(
        charged.dim() == 1 and charged.shape == spikes.shape and len(charged),
        f"charged and spikes must be [T], got {list(charged.shape)} and {list(spikes.shape)}",
    )
    ax = _axes(ax, (7, 2.6))
    steps = np.arange(1, len(charged) + 1)
    fired = steps[_array(spikes) > 0]
    top = max(float(_array(charged).max()), v_threshold)
    (line,) = ax.plot(steps, _array(charged), marker=".", label=label)
    ax.axhline(v_threshold, color="grey", linestyle="--", linewidth=1)
    ax.plot(fired, np.full(len(fired), top + 0.12 * abs(top)), "v", color=line.get_color())
    ax.set(xlabel="time (steps)", ylabel="potential before firing H")
    return ax


def plot_raster(spikes: Tensor, ax: Axes | None = None) -> Axes:
    """Draw a raster: one row per neuron, one mark per spike.

    Args:
        spikes: ``[T, K]``, 0 or 1.
        ax: Where to draw; a new figure if left out.
    """
    spikes = finite("spikes", tensor("spikes", spikes))
    _check(spikes.dim() == 2, f"spikes must be [T, K], got {list(spikes.shape)}")
    ax = _axes(ax, (7, 2.6))
    step, neuron = np.nonzero(_array(spikes))
    n_steps, n_neurons = spikes.shape
    ax.plot(step + 1, neuron, "|", color="black", markersize=max(2.0, min(9.0, 160 / n_neurons)))
    ax.set(
        xlabel="time (steps)",
        ylabel="neuron",
        xlim=(0.5, n_steps + 0.5),
        ylim=(-0.5, n_neurons - 0.5),
    )
    if n_neurons <= 20:
        ax.set_yticks(range(n_neurons))
    return ax


def plot_images(
    images: Tensor,
    titles: Sequence[str] | None = None,
    columns: int = 10,
    cmap: str = "gray",
) -> np.ndarray:
    """Draw images in a grid.

    Args:
        images: ``[N, 28, 28]`` or ``[N, 1, 28, 28]``, floating point, 0 darkest and 1 lightest;
            NaN stays blank.
        titles: One per image.
        columns: Images per row.
        cmap: Colour map.

    Returns:
        The array of axes, one per cell of the grid.
    """
    images = image_tensor("images", images, unread=True)
    columns = whole_number("columns", columns, least=1)
    _check(
        images.numel() and (images.dim() == 3 or (images.dim() == 4 and images.shape[1] == 1)),
        f"images must be [N, H, W] or [N, 1, H, W] with N of at least 1, got {list(images.shape)}",
    )
    _check(
        titles is None or len(titles) == len(images),
        f"titles must be {len(images)}, one per image, got {len(titles or ())}",
    )
    pictures = _array(images).reshape(len(images), *images.shape[-2:])
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (min(8.0, 1.6 * columns), min(8.0, 1.6 * columns) / columns * rows * 1.15)
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for cell in grid.flat:
        cell.axis("off")
    for index, (cell, picture) in enumerate(zip(grid.flat, pictures, strict=False)):
        cell.imshow(picture, cmap=cmap, vmin=0.0, vmax=1.0)
        if titles is not None:
            cell.set_title(titles[index], fontsize=9)
    return grid


def plot_curves(
    curves: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    ylabel: str = "accuracy (%)",
    xlabel: str = "epoch",
) -> Axes:
    """Draw named learning curves, one value per epoch from epoch 1, each in its own line style.

    A value may be NaN, which leaves a gap.
    """
    drawn: dict[str, Tensor] = {}
    for name, values in curves.items():
        listed = values if isinstance(values, Tensor) else np.asarray(values)
        drawn[name] = tensor(f"curves[{name!r}]", listed)
    ax = _axes(ax, (6, 3))
    for index, (name, curve) in enumerate(drawn.items()):
        ax.plot(
            range(1, len(curve) + 1),
            _array(curve),
            color=COLOURS[index % len(COLOURS)],
            linestyle=LINES[index % len(LINES)],
            marker="." if len(curve) < 30 else None,
            label=name,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def plot_confusion(labels: Tensor, predictions: Tensor, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix, each cell with its count; wrong cells set the colour scale.

    Args:
        labels: True classes, ``[N]``, 0 to 9.
        predictions: Predicted classes, ``[N]``.
        ax: Where to draw; a new figure if left out.
    """
    labels = label_tensor("labels", labels, n_classes=10)
    predictions = label_tensor("predictions", predictions, len(labels), n_classes=10)
    ax = _axes(ax, (5, 4.6))
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (_array(labels), _array(predictions)), 1)
    wrong = counts * (1 - np.eye(10, dtype=int))
    ax.imshow(wrong, cmap="Oranges")
    for row, column in np.ndindex(10, 10):
        if counts[row, column]:
            weight = "bold" if row == column else "normal"
            dark = wrong[row, column] > 0.6 * max(1, wrong.max())
            ax.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                fontsize=7,
                fontweight=weight,
                color="white" if dark else "black",
            )
    ax.set(xlabel="predicted digit", ylabel="true digit", xticks=range(10), yticks=range(10))
    return ax


def plot_rates(rate: Tensor, label: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the rates of the ten output neurons as bars.

    The bar of the true class has a thick edge, seen even at rate 0, and a bold number.

    Args:
        rate: ``[K]``, spikes per step.
        label: The true class.
        ax: Where to draw; a new figure if left out.
    """
    rate = finite("rate", float_tensor("rate", rate))
    _check(rate.dim() == 1, f"rate must be [K], got {list(rate.shape)}")
    if label is not None:
        label = whole_number("label", label, 0, len(rate) - 1)
    ax = _axes(ax, (3, 2))
    bars = ax.bar(range(len(rate)), _array(rate), color=COLOURS[0])
    ax.set(
        xlabel="output neuron", ylabel="rate (spikes/step)", ylim=(0, 1), xticks=range(len(rate))
    )
    if label is not None:
        bars[label].set(color=COLOURS[1], edgecolor="black", linewidth=1.6, clip_on=False)
        ax.get_xticklabels()[label].set_fontweight("bold")
    return ax
