"""Labels as pixels: true ones, wrong ones, and none at all.

In Forward-Forward a label is part of the image. Written truly it makes a positive
image, written wrongly a negative one (Hinton 2022, Sec. 3.3; chapter 8).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from snnlib.checks import (
    finite,
    float_tensor,
    image_tensor,
    instance,
    label_tensor,
    refuse,
    whole_number,
)


def overlay_labels(images: Tensor, labels: Tensor, n_classes: int = 10) -> Tensor:
    """Write labels into images: of the first ``n_classes`` pixels, one is 1 and the rest 0.

    Args:
        images: ``[N, 1, 28, 28]``, grey values in [0, 1]; left as they are. A tensor or
            NumPy array of floating point numbers.
        labels: ``[N]``, whole numbers of any type from 0 to ``n_classes - 1``.
        n_classes: How many pixels of the top row the label takes.

    Returns:
        New images, in the shape and type of ``images``.

    Raises:
        ValueError: A label is outside its range (looked for on a CPU only), there are more
            or fewer labels than images, or more classes than pixels in a row.
    """
    images, n_classes = _checked(images, n_classes)
    labels = _labels(labels, len(images), n_classes)
    one_hot = _one_hot(labels, n_classes).to(images.dtype)
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = one_hot
    return marked


def overlay_neutral(images: Tensor, n_classes: int = 10) -> Tensor:
    """Write "no label": every label pixel is ``1 / n_classes`` (Hinton 2022, Sec. 3.3).

    Images and refusals are those of :func:`overlay_labels`.
    """
    images, n_classes = _checked(images, n_classes)
    marked = images.clone()
    marked[:, 0, 0, :n_classes] = 1.0 / n_classes
    return marked


def with_every_label(
    images: Tensor,
    overlay: Callable[[Tensor, Tensor], Tensor] = overlay_labels,
    n_classes: int = 10,
) -> Tensor:
    """All images with label 0, then all with label 1, and so on: ``[n_classes * N, ...]``.

    Raises:
        ValueError: ``images`` hold whole numbers, or ``n_classes`` is none of at least 1.
    """
    n_classes = whole_number("n_classes", n_classes, least=1)
    images = image_tensor("images", images, unread=True)
    labels = torch.arange(n_classes, device=images.device).repeat_interleave(len(images))
    return overlay(images.repeat(n_classes, *[1] * (images.dim() - 1)), labels)


def draw_wrong_labels(labels: Tensor, generator: torch.Generator, n_classes: int = 10) -> Tensor:
    """Draw for each label another one, all wrong ones equally likely.

    Args:
        labels: True labels ``[N]``, from 0 to ``n_classes - 1``; a tensor or NumPy array.
        generator: Source of randomness, on the device of ``labels``.
        n_classes: At least 2.

    Returns:
        Wrong labels ``[N]``; none equals the true one.

    Raises:
        ValueError: There is no wrong label to draw, or a label is out of range (looked for
            on a CPU only).
    """
    n_classes = whole_number("n_classes", n_classes, least=2)
    instance("generator", generator, torch.Generator)
    labels = _labels(labels, None, n_classes)
    step = torch.randint(
        1, n_classes, labels.shape, generator=generator, device=labels.device, dtype=labels.dtype
    )
    return (labels + step) % n_classes


def draw_likely_wrong_labels(scores: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw wrong labels that the network itself finds plausible ("hard" negatives).

    A wrong label is drawn in proportion to ``exp(score)``.

    Args:
        scores: Goodness of every image with every label, ``[N, n_classes]``.
        labels: True labels ``[N]``.
        generator: Source of randomness, on the device of ``scores``.

    Returns:
        Wrong labels ``[N]``; none equals the true one.

    Raises:
        ValueError: There are more or fewer labels than images, one is out of range, or a
            score is not finite (both looked for on a CPU only).
    """
    instance("generator", generator, torch.Generator)
    scores = float_tensor("scores", scores)
    if scores.dim() != 2 or scores.shape[1] < 2:
        refuse("scores", "[N, n_classes] of at least 2 classes", scores)
    if scores.device.type == "cpu":
        finite("scores", scores)
    labels = _labels(labels, *scores.shape)
    true = _one_hot(labels, scores.shape[1]).bool()
    chance = torch.softmax(scores.masked_fill(true, -torch.inf), dim=1)
    return torch.multinomial(chance, 1, generator=generator).squeeze(1)


def _checked(images: Tensor, n_classes: int) -> tuple[Tensor, int]:
    images = image_tensor("images", images, unread=True)
    if images.dim() != 4 or images.shape[1] != 1:
        refuse("images", "[N, 1, H, W]", images)
    return images, whole_number("n_classes", n_classes, 1, images.shape[-1])


def _labels(labels: Tensor, n_labels: int | None, n_classes: int) -> Tensor:
    # On a GPU nobody asks for the range, so that nothing has to wait for the answer.
    on_cpu = getattr(getattr(labels, "device", None), "type", "cpu") == "cpu"
    return label_tensor("labels", labels, n_labels, n_classes if on_cpu else None)


def _one_hot(labels: Tensor, n_classes: int) -> Tensor:
    # Built by comparison: unlike F.one_hot it asks the GPU for nothing, so nothing waits.
    return labels[:, None] == torch.arange(n_classes, device=labels.device)
