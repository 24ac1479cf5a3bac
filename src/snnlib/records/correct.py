"""Which test images a run predicted correctly, as a short text in its record. Needs no torch."""

import base64
import binascii
import zlib
from collections.abc import Iterable

from snnlib.checks import refuse, text, whole_number


def pack_correct(correct: Iterable[bool]) -> str:
    """One bit per image, in the order of the set, compressed (deflate, base 85).

    Args:
        correct: Whether each image was predicted correctly, ``[N]``.
    """
    bits = "".join("1" if right else "0" for right in correct)
    packed = int("1" + bits, 2)  # the leading one keeps the zeros behind it
    whole = packed.to_bytes((packed.bit_length() + 7) // 8, "big")
    return base64.b85encode(zlib.compress(whole, 9)).decode("ascii")


def unpack_correct(packed: str, n_images: int) -> list[bool]:
    """The inverse of :func:`pack_correct`.

    Raises:
        ValueError: ``packed`` is no such text, or not of ``n_images`` images.
    """
    n_images = whole_number("n_images", n_images, least=1)
    packed = text("correct", packed)
    try:
        whole = zlib.decompress(base64.b85decode(packed))
    except (ValueError, binascii.Error, zlib.error):
        refuse("correct", "a packed list of bits", packed[:20])
    bits = bin(int.from_bytes(whole, "big"))[3:]
    if len(bits) != n_images:
        raise ValueError(f"correct must be of {n_images} images, got {len(bits)} bits")
    return [bit == "1" for bit in bits]
