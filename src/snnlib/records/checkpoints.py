"""Files of weights: checkpoints to resume from, and safetensors to keep.

Nothing here is ever unpickled into code, and a file appears under its name only
when it is complete.
"""

import os
import warnings
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from snnlib.checks import refuse, text
from snnlib.checks import tensor as checked_tensor
from snnlib.checks.files import (
    Kind,
    StrPath,
    check_apart,
    check_readable_name,
    check_writable,
    named_path,
    older_name,
    real_path,
    refuse_other_file,
    write_whole,
)

FORMAT = "snnlib checkpoint 1"


def check_run_files(
    checkpoint: StrPath | None,
    weights: StrPath | None,
    resume: StrPath | None = None,
    *,
    names: tuple[str, str] = ("checkpoint", "weights"),
) -> tuple[Path | None, Path | None, Path | None]:
    """The files of a run as paths; what must not be overwritten is refused before anything is.

    Args:
        checkpoint: Where the state will be stored.
        weights: Where the weights will be kept.
        resume: The checkpoint to go on from; only read.
        names: What the first two were asked for with.

    Raises:
        ValueError: A place cannot be written to, holds a file that is not ours, or two
            of them are one.
    """
    first, second = names
    state = None if checkpoint is None else named_path(first, checkpoint)
    kept = None if weights is None else named_path(second, weights)
    source = None if resume is None else named_path("resume", resume)
    olds = [None if path is None else older_name(path) for path in (state, kept)]
    check_apart({"checkpoint": state, "weights": kept})
    check_apart({"the older checkpoint": olds[0], "weights": kept})
    check_apart({"checkpoint": state, "the older weights": olds[1]})
    for name, kind, path in ((first, CHECKPOINT, state), (second, WEIGHTS, kept)):
        if path is not None:
            check_readable_name(name, path)
            check_writable(name, path, kind)
            if path.exists() and not _is_same(path, source):
                check_writable(name, older_name(path), kind)
    return state, kept, source


def save_checkpoint(path: StrPath, state: Mapping[str, Any]) -> None:
    """Store tensors and plain values; the old file stays until the new one is complete.

    Raises:
        OSError: The file cannot be written; an earlier checkpoint survives.
        ValueError: A file that is no checkpoint of snnlib is there; it stays. Or ``state``
            holds what could not be read back.
    """
    if not isinstance(state, Mapping):
        refuse("state", "a dictionary", state)
    _check_plain("state", state)
    target = named_path("path", path)
    refuse_other_file("path", target, CHECKPOINT)
    write_whole(target, lambda name: torch.save({**state, "format": FORMAT}, name))


_PLAIN = (type(None), bool, int, float, str, torch.Tensor, torch.nn.Parameter)


def _check_plain(name: str, value: object) -> None:
    """Refuse what :func:`load_checkpoint`, which runs no code of a file, would refuse later."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(f"a name in {name}", key)
            _check_plain(f"{name}[{key!r}]", item)
    elif type(value) in (list, tuple):
        for index, item in enumerate(cast(list[object], value)):
            _check_plain(f"{name}[{index}]", item)
    elif type(value) not in _PLAIN:
        refuse(name, "a tensor or a plain value", value)


def load_checkpoint(path: StrPath) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` stored, onto the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, a pickle, or something else altogether.
    """
    source = named_path("path", path)
    if not source.is_file():
        raise FileNotFoundError(f"no checkpoint at {source}")
    check_readable_name("path", source)
    return _read_checkpoint(source)


def _read_checkpoint(path: Path, *, look_only: bool = False) -> dict[str, Any]:
    """Tensors and values; to look only, tensors stay in the file until they are asked for."""
    try:
        with warnings.catch_warnings():  # of strange files; the sentence below says it all
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=look_only)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(
            f"{path} is damaged or no checkpoint of snnlib; nothing was changed"
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is no checkpoint of snnlib; nothing was changed")
    return state


def _is_checkpoint(path: Path) -> bool:
    try:
        _read_checkpoint(path, look_only=True)
    except ValueError:
        return False
    return True


CHECKPOINT = Kind("a checkpoint of snnlib", _is_checkpoint)


def epochs_in(path: Path) -> int:
    """How many finished epochs a file of ours holds; of another file nobody knows, so: none."""
    try:
        return len(load_checkpoint(path).get("history", ()))
    except (FileNotFoundError, ValueError):
        return 0


def move_aside(checkpoint: StrPath, resume: StrPath | None) -> None:
    """Keep the checkpoint of an earlier run as ``NAME.old``, unless we go on from it.

    One that holds no finished epoch is not worth it: it would push out a better ``.old``.

    Raises:
        ValueError: A file of either name is no checkpoint of snnlib; both stay.
    """
    path = named_path("checkpoint", checkpoint)
    source = None if resume is None else named_path("resume", resume)
    if not path.exists() or _is_same(path, source):
        return
    refuse_other_file("checkpoint", path, CHECKPOINT)
    if path.stat().st_size and _read_checkpoint(path, look_only=True).get("history", True):
        refuse_other_file("checkpoint", older_name(path), CHECKPOINT)
        os.replace(real_path(path), older_name(path))


def _is_same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.exists() and path.samefile(other)


def refuse_other_settings(
    path: StrPath, stored: Mapping[str, Any], wanted: Mapping[str, Any], free: Container[str]
) -> None:
    """Refuse a checkpoint whose settings differ in any name that is not ``free``.

    Raises:
        ValueError: The message names the first difference.
    """
    for name, value in wanted.items():
        if name not in free and stored.get(name) != value:
            raise ValueError(
                f"{os.fspath(path)} was made with {name}={stored.get(name)!r}, this run has "
                f"{name}={value!r}; nothing was changed; give the same setting or move the file"
            )


def save_weights(
    path: StrPath,
    weights: Mapping[str, Tensor],
    *,
    record_id: str = "",
    half: bool = False,
    keep_old: bool = True,
) -> None:
    """Keep the weights of a network as safetensors.

    Args:
        path: Where; the folder is made.
        weights: ``network.state_dict()``.
        record_id: The run they come from; stored in the file.
        half: Store floating-point tensors in float16, half the size.
        keep_old: Keep weights of another run that are there as ``NAME.old``.

    Raises:
        OSError: The file cannot be written; an earlier one survives.
        ValueError: A file that this function did not write is there; it stays. Or
            ``weights`` are none.
    """
    if not isinstance(weights, Mapping):
        refuse("weights", "a dictionary", weights, "network.state_dict() is one")
    record_id = text("record_id", record_id, empty=True)
    target = named_path("path", path)
    refuse_other_file("path", target, WEIGHTS)
    keep_old = keep_old and _record_in(target) not in (None, record_id)
    if keep_old:
        refuse_other_file("path", older_name(target), WEIGHTS)
    tensors = {}
    for name, given in weights.items():
        tensor = checked_tensor(f"weights[{name!r}]", given)
        shrink = half and tensor.is_floating_point()
        kept = tensor.detach().cpu().to(torch.float16 if shrink else tensor.dtype)
        tensors[name] = kept.clone(memory_format=torch.contiguous_format)

    def write(name: str) -> None:
        try:
            save_file(tensors, name, metadata={"record_id": record_id})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_whole(target, write, keep_old=keep_old)


def _record_in(path: Path) -> str | None:
    """The record that a file of weights names, perhaps an empty one; ``None`` if it is not ours."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            return (stored.metadata() or {}).get("record_id")
    except (SafetensorError, OSError):
        return None


WEIGHTS = Kind("weights of snnlib", lambda path: _record_in(path) is not None)


def load_weights(path: StrPath) -> tuple[dict[str, Tensor], str]:
    """Read weights back, in float32, and the id of their record.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no safetensors file, or damaged.
    """
    source = named_path("path", path)
    if not source.is_file():
        raise FileNotFoundError(f"no weights at {source}")
    check_readable_name("path", source)
    try:
        with safe_open(source, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            record_id = (stored.metadata() or {}).get("record_id", "")
    except SafetensorError as error:
        raise ValueError(f"{source} is damaged or no safetensors file") from error
    widen = {torch.float16: torch.float32}
    return {name: t.to(widen.get(t.dtype, t.dtype)) for name, t in tensors.items()}, record_id
