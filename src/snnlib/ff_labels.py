"""Labels as pixels: true ones, wrong ones, and none at all.

In Forward-Forward a label is part of the image. Written truly it makes a positive
image, written wrongly a negative one (Hinton 2022, Sec. 3.3; chapter 8).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def overlay_labels(images: Tensor, labels: Tensor, n_classes: int = 10) -> Tensor:
    """Write labels into images: of the first ``n_classes`` pixels, one is 1 and the rest 0.

    Args:
        images: ``[N, 1, 28, 28]``, grey values in [0, 1]; left as they are.
        labels: ``[N]``, whole numbers from 0 to ``n_classes - 1``.
        n_classes: How many pixels of the top row the label takes.

    Returns:
        New images, in the shape and type of ``images``.

    Raises:
        ValueError: A label is outside its range, or there are more or fewer labels than images.
    """
    if images.dim() != 4:
        raise ValueError(f"images must be [N, 1, H, W], got {list(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be [N] with N={len(images)} images, got {tuple(labels.shape)}"
        )
    one_hot = _one_hot(labels, n_classes).to(images.dtype)
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = one_hot
    return marked


def overlay_neutral(images: Tensor, n_classes: int = 10) -> Tensor:
    """Write "no label": every label pixel is ``1 / n_classes`` (Hinton 2022, Sec. 3.3)."""
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = 1.0 / n_classes
    return marked


def with_every_label(
    images: Tensor,
    overlay: Callable[[Tensor, Tensor], Tensor] = overlay_labels,
    n_classes: int = 10,
) -> Tensor:
    """All images with label 0, then all with label 1, and so on: ``[n_classes * N, ...]``."""
    labels = torch.arange(n_classes, device=images.device).repeat_interleave(len(images))
    return overlay(images.repeat(n_classes, *[1] * (images.dim() - 1)), labels)


def draw_wrong_labels(labels: Tensor, generator: torch.Generator, n_classes: int = 10) -> Tensor:
    """Draw for each label another one, all wrong ones equally likely.

    Args:
        labels: True labels ``[N]``, from 0 to ``n_classes - 1``.
        generator: Source of randomness, on the device of ``labels``.
        n_classes: At least 2.

    Returns:
        Wrong labels ``[N]``; none equals the true one.

    Raises:
        ValueError: There is no wrong label to draw.
    """
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes}")
    step = torch.randint(
        1, n_classes, labels.shape, generator=generator, device=labels.device, dtype=labels.dtype
    )
    return (labels + step) % n_classes


def draw_likely_wrong_labels(
    scores: Tensor, labels: Tensor, generator: torch.Generator, sharpness: float = 1.0
) -> Tensor:
    """Draw wrong labels that the network itself finds plausible ("hard" negatives).

    Args:
        scores: Goodness of every image with every label, ``[N, n_classes]``.
        labels: True labels ``[N]``.
        generator: Source of randomness, on the device of ``scores``.
        sharpness: A label is drawn in proportion to ``exp(sharpness * score)``;
            0 draws all wrong labels alike.

    Returns:
        Wrong labels ``[N]``; none equals the true one.

    Raises:
        ValueError: There are more or fewer labels than images, or one is out of range.
    """
    if labels.shape != scores.shape[:1]:
        raise ValueError(f"labels must be [{len(scores)}], got {list(labels.shape)}")
    true = _one_hot(labels, scores.shape[1]).bool()
    chance = torch.softmax((sharpness * scores).masked_fill(true, -torch.inf), dim=1)
    return torch.multinomial(chance, 1, generator=generator).squeeze(1)


def _one_hot(labels: Tensor, n_classes: int) -> Tensor:
    # Built by comparison: unlike F.one_hot it asks the GPU for nothing, so nothing waits.
    if labels.device.type == "cpu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= n_classes:
            raise ValueError(f"labels must lie in 0..{n_classes - 1}, got {low} to {high}")
    return labels[:, None] == torch.arange(n_classes, device=labels.device)
