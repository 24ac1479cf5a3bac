"""What a loop over batches may be given, and get back."""

from typing import Any

from torch import Tensor

from snnlib.checks import instance


def image_label_pairs(batches: Any) -> Any:
    """Refuse one pair, or a set of images, in the place of batches of them."""
    one_pair = isinstance(batches, tuple) and bool(batches) and isinstance(batches[0], Tensor)
    if one_pair or hasattr(batches, "labels"):
        kind = "one pair of tensors" if one_pair else f"{type(batches).__name__}"
        raise ValueError(
            f"batches must be pairs (images, labels), one per batch, got {kind}; "
            "snnlib.data.make_loader cuts a set into batches"
        )
    return batches


def checked_rate(rate: object, labels: object) -> Tensor:
    """One label per answer: another shape would be stretched, and correct ones miscounted."""
    rate, labels = instance("respond(images)", rate, Tensor), instance("labels", labels, Tensor)
    if rate.dim() != 2 or labels.shape != rate.shape[:1] or labels.is_floating_point():
        raise ValueError(
            "labels must be class numbers [N] for the rates [N, K] of respond(images), got "
            f"{labels.dtype} {list(labels.shape)} for {list(rate.shape)}"
        )
    return rate


def checked_loss(value: Tensor) -> Tensor:
    """A loss is one number, or no gradient could start from it."""
    if instance("loss(rates, labels)", value, Tensor).dim():
        raise ValueError(f"loss must return one number, got shape {list(value.shape)}")
    return value
