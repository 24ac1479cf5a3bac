"""The four original files of MNIST: unpacked out of the package, checked, never downloaded.

They travel inside the package, xz-compressed. The first call unpacks them, checked
against the SHA-256 of the originals, into the user's cache in torchvision's own
layout.

That cache is ours, and what is damaged there is repaired without a word. A folder
that the user names, be it by ``root`` or by ``SNNLIB_CACHE``, is the user's: what is
missing there is added, and another file under one of the four names, such as
Fashion-MNIST, is refused and stays.
"""

import hashlib
import logging
import lzma
import os
from importlib import resources
from pathlib import Path

from snnlib.checks.files import named_path, write_whole

logger = logging.getLogger(__name__)

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def read_originals(folder: Path, name: str | None, part: str) -> tuple[bytes, bytes]:
    """Content of the files of images and of labels; ``part`` is ``"train"`` or ``"t10k"``.

    Args:
        folder: Where they are, or shall be unpacked, in torchvision's ``MNIST/raw``.
        name: What the user named it with; None for the cache, which is ours to repair.
        part: The first word of the file names.

    Raises:
        ValueError: A folder that was named holds another file where MNIST should be.
        OSError: The folder cannot be written.
    """
    raw = folder / "MNIST" / "raw"
    paths = [raw / f"{part}-{rest}" for rest in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    found = [_original(path) for path in paths]
    if name is not None and None in found:
        _refuse_other_images(name, raw)
    pixels, labels = (
        _ensure_unpacked(path, name or "root") if content is None else content
        for path, content in zip(paths, found, strict=True)
    )
    return pixels, labels


def cache_folder() -> Path:
    """Where MNIST is unpacked: ``SNNLIB_CACHE``, else the user's cache folder.

    Raises:
        OSError: The system knows no home folder of this user.
    """
    if chosen := os.environ.get("SNNLIB_CACHE"):
        return named_path("SNNLIB_CACHE", chosen, folder=True)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(base).expanduser() if base else Path.home() / ".cache") / "snnlib"
    except RuntimeError as error:
        raise OSError("there is no home folder to keep MNIST in; set SNNLIB_CACHE") from error


def _original(path: Path) -> bytes | None:
    """The content of a file if it is the verified original, else ``None``."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    return content if _sha256(content) == SHA256[path.name] else None


def _refuse_other_images(name: str, raw: Path) -> None:
    """Refuse a folder of the user that holds something else under one of the four names.

    All four are looked at before one is added: half MNIST and half another set would
    be worse than either.
    """
    for path in map(raw.joinpath, SHA256):
        if os.path.lexists(path) and _original(path) is None:
            raise ValueError(
                f"{name} must hold the original MNIST or room for it, got {path}, which is "
                f"another data set or damaged; nothing was changed; name another folder, or "
                f"leave {name} out for the cache of snnlib itself"
            )


def _ensure_unpacked(path: Path, name: str = "root") -> bytes:
    """Make ``path`` hold the verified original; rebuild it when damaged or missing."""
    if (known := _original(path)) is not None:
        return known
    packed = resources.files("snnlib").joinpath("mnist", path.name + ".xz").read_bytes()
    try:
        content = lzma.decompress(packed)
    except lzma.LZMAError:
        content = b""
    if _sha256(content) != SHA256[path.name]:
        raise OSError(f"the packaged file {path.name}.xz is damaged; reinstall snnlib")
    try:
        write_whole(path, lambda temporary: Path(temporary).write_bytes(content))
    except OSError as error:
        raise OSError(
            f"{name} must be a folder that can be written, got {path.parent} ({error}); "
            f"name another folder or set SNNLIB_CACHE"
        ) from error
    logger.info("unpacked and verified %s", path)
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
