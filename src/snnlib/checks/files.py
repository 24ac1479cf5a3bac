"""Files that a user names: what a path means, and what is never overwritten.

A path means what it means elsewhere: ``~`` is the home folder, what is relative
starts at the current folder, and a link is written through, not replaced. A file
that we did not write is neither replaced nor added to: it is refused in one
sentence, before anything is computed. An empty file holds nothing and may be used.
"""

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snnlib.checks import refuse

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Kind:
    """A kind of file that we write: what it is called, and how one of ours is known."""

    name: str
    is_ours: Callable[[Path], bool]


def named_path(name: str, value: object, *, folder: bool = False) -> Path:
    """The file, or the folder, that a text, bytes or a path names; ``~`` is the home folder.

    Raises:
        ValueError: ``value`` is no path, is empty, is the address of a place elsewhere, as
            ``s3://bucket``, or in the home of nobody, as ``~nobody``, has a name longer
            than the system allows, or ends like a folder where a file is asked for.
    """
    allowed = f"the name of a {'folder' if folder else 'file'}"
    if not isinstance(value, str | bytes | os.PathLike):
        refuse(name, allowed, value)
    text = os.path.expanduser(os.fsdecode(value))
    if is_store(text):
        refuse(name, allowed, value, "only places on this machine can be written to and read")
    ends = tuple(end for end in (os.sep, os.altsep) if end)
    if not text.strip() or "\0" in text or not _is_encodable(text):
        refuse(name, allowed, value)
    if text.endswith(ends) and not folder:
        refuse(name, allowed, value)
    if text.startswith("~"):
        cure = f"there is no such home folder; what is so called here is ./{text}"
        refuse(name, allowed, value, cure)
    if _is_too_long(Path(text)):
        refuse(name, allowed, value, "it is longer than the system allows")
    return Path(text)


def is_store(place: object) -> bool:
    """Whether a text is the address of a place elsewhere; a drive of Windows is none.

    >>> is_store("s3://bucket/runs"), is_store("C://runs"), is_store("runs")
    (True, False, False)
    """
    return isinstance(place, str) and re.match(r"[A-Za-z][\w+.-]+://", place) is not None


def _is_encodable(text: str) -> bool:
    try:
        return bool(os.fsencode(text))
    except UnicodeEncodeError:
        return False


def _is_too_long(path: Path) -> bool:
    """Whether a part has more than 255 bytes, on Windows characters, or the whole too many."""
    if any(len(part if os.name == "nt" else os.fsencode(part)) > 255 for part in path.parts):
        return True
    try:
        path.lstat()
    except OSError as error:  # that it is not there is none of our business
        return error.errno == errno.ENAMETOOLONG
    return False


def check_readable_name(name: str, path: Path) -> None:
    """Refuse bytes that are no UTF-8 in a path: safetensors, torch and TensorBoard cannot read it.

    Raises:
        ValueError: The place, links followed, has such a name.
    """
    place = str(real_path(path))
    if not _is_utf8(place):
        refuse(name, "a place whose name is UTF-8", place, "rename the folder or the file")


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def real_path(path: Path) -> Path:
    """Where a path leads when all links are followed."""
    return Path(os.path.realpath(path))


def older_name(path: Path) -> Path:
    """``NAME.old``, under which the file of an earlier run is kept; of a link, beside its target.

    >>> older_name(Path("/runs/fc.ckpt")).name
    'fc.ckpt.old'
    """
    target = real_path(path)
    return target.with_name(f"{target.name}.old")


def check_writable(name: str, file: Path, kind: Kind | None = None) -> None:
    """Refuse a place that cannot be written to, or holds a file that we did not write.

    To be called before the training and not after it; nothing is made or changed.

    Args:
        name: What the place was asked for with, say ``--ledger``.
        file: To be written later.
        kind: What may be there already; anything if left out.

    Raises:
        ValueError: The file or its folder cannot be made or written to, or it is
            another kind of file.
    """
    try:
        target = real_path(file)
        if target.exists():
            if not target.is_file() or _is_protected(target):  # a folder, a device
                raise PermissionError(target)
            target.open("r+b").close()
        elif target.is_symlink() or (file.is_symlink() and not target.parent.is_dir()):
            raise FileNotFoundError(target)  # a circle of links, or say a disk that is not there
        _try_beside(target)
    except OSError as error:
        raise ValueError(f"{name} must name a place that can be written to, got {file}") from error
    if kind is not None:
        refuse_other_file(name, file, kind)


def refuse_other_file(name: str, file: Path, kind: Kind) -> None:
    """Refuse a file that is there, holds something, and is not of our ``kind``, or is protected.

    Raises:
        ValueError: The sentence names the file and the way out.
    """
    if not file.exists():
        return
    if _is_protected(file):
        raise ValueError(f"{name} must name a file that may be written, got {file}, protected")
    if file.is_file() and not file.stat().st_size:
        return
    if not file.is_file() or not kind.is_ours(file):
        raise ValueError(
            f"{name} must name a new file or {kind.name}, got {file}, which is damaged or "
            f"something else; nothing was changed; name another file, or move that one away"
        )


def check_apart(places: Mapping[str, Path | None]) -> None:
    """Refuse one file for two purposes.

    Raises:
        ValueError: Two of the named places are the same file.
    """
    seen: dict[Path, str] = {}
    for name, path in places.items():
        if path is None:
            continue
        other = seen.setdefault(real_path(path), name)
        if other != name:
            raise ValueError(f"{name} and {other} must name two files, got {path} for both")


def write_whole(path: Path, write: Callable[[str], object], *, keep_old: bool = False) -> None:
    """Write beside the target, then rename: readers see the old file or the new one.

    Args:
        path: Where; missing folders are made, a link is written through.
        write: Given the name of the file to fill.
        keep_old: Keep a file that is there as :func:`older_name`.

    Raises:
        OSError: The file cannot be written; an older one survives.
    """
    target = real_path(path)
    temporary = _beside(target)
    try:
        if not path.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = (target if target.exists() else temporary).stat().st_mode & 0o777
        write(str(temporary))
        temporary.chmod(mode)  # safetensors shuts out everybody else
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        if keep_old and target.exists():
            os.replace(target, older_name(target))
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:  # each tells a full disk its way
        reason = getattr(error, "strerror", None) or "is the disk full?"
        kept = "the older file of that name is kept" if target.exists() else "no file was begun"
        raise OSError(f"{path} could not be written ({reason}); {kept}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def _is_protected(file: Path) -> bool:
    """Whether nobody may write it; renaming, or the superuser, would not mind."""
    return file.is_file() and not file.stat().st_mode & 0o222


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}")


def _try_beside(target: Path) -> None:
    """Make what will be made, folders too, in a folder that vanishes at once."""
    there = target.parent
    while not there.exists():
        there = there.parent
    with tempfile.TemporaryDirectory(dir=there) as scratch:
        trial = Path(scratch) / target.parent.relative_to(there) / _beside(target).name
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
