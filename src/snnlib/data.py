"""Images with labels: all 70,000 of MNIST, an ``ImageSet`` of yours, or a picture of yours."""

import os
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snnlib.checks import (
    grey_tensor,
    instance,
    label_tensor,
    refuse,
    tensor,
    text,
    whole_number,
    yes_or_no,
)
from snnlib.checks.files import named_path
from snnlib.mnist.originals import cache_folder, read_originals
from snnlib.mnist.pictures import read_picture


@dataclass(frozen=True)
class ImageSet:
    """Images ``[N, 1, 28, 28]`` float32 in [0, 1], labels ``[N]`` int64, and their origin.

    Both may be tensors or NumPy arrays: images of any floating point type, if float32
    holds their values exactly, and labels of any type of whole numbers. An array
    whose type is right shares its memory with the set.

    Raises:
        ValueError: Images have another shape, are no grey values or would have to be
            rounded, labels are no whole numbers, there are not as many of both, or
            ``source``, which every record names, is empty.
    """

    images: Tensor
    labels: Tensor
    source: str

    def __post_init__(self) -> None:
        images = grey_tensor("images", self.images, torch.float32)
        _check_shape(images)
        labels = label_tensor("labels", self.labels)
        if len(images) != len(labels):
            raise ValueError(
                f"images and labels must be equally many, got {len(images)} and {len(labels)}"
            )
        self._store(images, labels)
        object.__setattr__(self, "source", text("source", self.source))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """One image ``[1, 28, 28]`` and its label, for ``torch.utils.data.DataLoader``."""
        return self.images[number], self.labels[number]

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at ``indices`` (whole numbers, any order), with their labels.

        Args:
            indices: From 0 to N - 1; or a mask, ``[N]`` booleans. A tensor or NumPy array.

        Raises:
            ValueError: ``indices`` are nothing of that kind.
        """
        if isinstance(indices, list | range | tuple):
            indices = torch.as_tensor(indices, dtype=None if len(indices) else torch.int64)
        chosen = tensor("indices", indices)
        if chosen.dtype == torch.bool and chosen.shape == self.labels.shape:
            chosen = chosen.nonzero().squeeze(1)
        chosen = label_tensor("indices", chosen, n_classes=len(self))
        return copy(self)._store(self.images[chosen], self.labels[chosen])

    def to(self, device: str | torch.device) -> "ImageSet":
        """The same images and labels on another device; types stay as they are."""
        return copy(self)._store(*(x.to(torch.device(device)) for x in (self.images, self.labels)))

    def _store(self, images: Tensor, labels: Tensor) -> "ImageSet":
        """Take in tensors that are known to fit; a part of a checked set needs no check."""
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        return self


def _check_shape(images: Tensor) -> None:
    """Refuse pictures in colour, of another size, or without their axis of channels."""
    rest = tuple(images.shape[1:])
    if rest == (1, 28, 28):
        return
    cures: dict[tuple[int, ...], str] = {(28, 28): "images[:, None] adds the axis of channels"}
    cures |= dict.fromkeys([(28,), (784,), (28, 28, 1)], "images.reshape(-1, 1, 28, 28) is")
    if rest[1:] == (28, 28) or (len(rest) == 3 and rest[0] in (3, 4)):  # of four, one is alpha
        part = "images[:, :3]" if rest[0] == 4 else "images"
        cures[rest] = f"make them grey, say with {part}.mean(1, keepdims=True), and 28 by 28"
    elif rest[2:] in {(3,), (4,)}:
        cures[rest] = "make them grey, say with images[..., :3].mean(3)[:, None], and 28 by 28"
    refuse("images", "[N, 1, 28, 28]", images, cures.get(rest, "resize them to 28 by 28 pixels"))


class Batches:
    """Mini-batches of an :class:`ImageSet`, from memory; made by :func:`make_loader`."""

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        generator: torch.Generator | None,
        drop_last: bool,
    ) -> None:
        self.images = instance("images", images, ImageSet)
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        instance("generator", generator, torch.Generator, type(None))
        self.generator = generator
        self.drop_last = yes_or_no("drop_last", drop_last)

    def __len__(self) -> int:
        full, rest = divmod(len(self.images), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n, drawn = len(self.images), self.generator
        order = torch.arange(n) if drawn is None else torch.randperm(n, generator=drawn)
        order = order.to(self.images.labels.device)
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield self.images.images[chosen], self.images.labels[chosen]


def make_loader(
    images: ImageSet,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    drop_last: bool = False,
) -> Batches:
    """Cut a set into mini-batches ``(images, labels)``; no worker processes needed.

    Args:
        images: The set; its tensors stay where they are.
        batch_size: Images per batch, at least 1.
        generator: Shuffles anew at each pass; without one the order is kept.
        drop_last: Leave out a last batch that is not full.

    Raises:
        ValueError: ``batch_size`` is no whole number of at least 1, ``images`` are no
            :class:`ImageSet`, or ``drop_last`` is neither True nor False.
    """
    return Batches(images, batch_size, generator, drop_last)


def load_mnist(
    *, train: bool, root: str | os.PathLike[str] | None = None, limit: int | None = None
) -> ImageSet:
    """Read MNIST from the package: 60,000 training or 10,000 test images.

    Args:
        train: The training set, or the test set.
        root: Folder that holds (or shall hold) torchvision's ``MNIST/raw``; the
            user's cache if left out. ``SNNLIB_CACHE`` names another folder for that.
            In a folder that is named, files are added but never overwritten.
        limit: Take only so many images, the ten classes as equal in number as
            possible, always the same ones.

    Returns:
        The images, their labels and where they came from.

    Raises:
        ValueError: ``limit`` is no whole number in 1..N, ``train`` is neither True nor
            False, ``root`` is no path, or a folder that was named holds another file
            where MNIST should be.
        OSError: The folder cannot be written; the message names it.
    """
    train = yes_or_no("train", train)
    if limit is not None:
        limit = whole_number("limit", limit, 1, 60_000 if train else 10_000)
    if root is not None:
        return read_mnist(named_path("root", root, folder=True), "root", train=train, limit=limit)
    name = "SNNLIB_CACHE" if os.environ.get("SNNLIB_CACHE") else None
    return read_mnist(cache_folder(), name, train=train, limit=limit)


def read_mnist(
    folder: Path, name: str | None, *, train: bool, limit: int | None = None
) -> ImageSet:
    """As :func:`load_mnist`, from ``folder``; ``name`` is what the user named it with, if so."""
    part, word = ("train", "training") if train else ("t10k", "test")
    pixels, labels = read_originals(folder, name, part)
    # What the SHA-256 promises: a head of 16 or 8 bytes, and a byte per pixel or label.
    grey = torch.frombuffer(bytearray(pixels), dtype=torch.uint8, offset=16)
    whole = ImageSet(
        images=grey.view(-1, 1, 28, 28).float() / 255,
        labels=torch.frombuffer(bytearray(labels), dtype=torch.uint8, offset=8).long(),
        source=f"MNIST {word} set, original files, SHA-256 verified",
    )
    return whole if limit is None else whole.subset(balanced_indices(whole.labels, limit))


def read_both(
    folder: Path, name: str, limit: int | None, test_limit: int | None
) -> dict[str, ImageSet]:
    """Both sets of a folder that the user named with ``name``, as the arguments of a run."""
    return {
        "training_images": read_mnist(folder, name, train=True, limit=limit),
        "test_images": read_mnist(folder, name, train=False, limit=test_limit),
    }


def load_picture(path: str | os.PathLike[str]) -> Tensor:
    """A digit of your own, drawn or photographed, as MNIST would show it.

    Grey or colour, of any size; dark on light or light on dark: the border of the picture
    is taken as its ground, and what departs from it most as the digit. Leave a margin
    around it, and nothing else in sight. Only brightness counts, so red on
    equally bright green is not seen. The steps are in :func:`snnlib.mnist.pictures.like_mnist`.

    Args:
        path: Any file that Pillow reads, such as PNG, JPEG, GIF, WebP, TIFF: with 8 or 16
            bits, a palette, or transparency (over white); turned as its EXIF entry says.

    Returns:
        ``[1, 28, 28]`` float32 in [0, 1], a light digit on black, its longer side 20 pixels
        and its centre of mass at the centre.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture that can be read, or nothing is to be seen on it.
    """
    return read_picture(path)


def split_validation(
    images: ImageSet, n: int, generator: torch.Generator
) -> tuple[ImageSet, ImageSet]:
    """Split off ``n`` images at random for validation.

    Args:
        images: The training set.
        n: Size of the validation set, from 1 to one less than all.
        generator: Decides which images go where.

    Returns:
        The remaining training set and the validation set; together they are
        the whole, and no image is in both.

    Raises:
        ValueError: ``n`` is no whole number, or leaves nothing on one side.
    """
    instance("images", images, ImageSet)
    n = whole_number("n", n, 1, len(images) - 1)
    instance("generator", generator, torch.Generator)
    order = torch.randperm(len(images), generator=generator)
    return images.subset(order[n:]), images.subset(order[:n])


def balanced_indices(labels: Tensor, limit: int) -> Tensor:
    """The first images of each class, in their original order; classes differ by one at most."""
    # Rank every image within its class; taking the lowest ranks first balances them.
    rank = torch.empty_like(labels)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        rank[members] = torch.arange(len(members))
    return rank.argsort(stable=True)[:limit].sort().values
