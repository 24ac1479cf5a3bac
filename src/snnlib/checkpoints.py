"""Files of weights: checkpoints to resume from, and safetensors to keep.

Nothing here is ever unpickled into code, and a file appears under its name only
when it is complete.
"""

import os
import secrets
import tempfile
import warnings
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "snnlib checkpoint 1"

Address = str | os.PathLike[str]


def check_writable(flag: str, file: Path) -> None:
    """Refuse a place that cannot be written to, before the training and not after it.

    Args:
        flag: What the place was asked for with, say ``--ledger``.
        file: To be written later; made by nobody here, and left as it is if it is there.

    Raises:
        ValueError: Its folder cannot be made or written to, or the file cannot be opened.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
        if file.exists():
            file.open("r+b").close()
    except OSError as error:
        raise ValueError(f"{flag} must name a place that can be written to, got {file}") from error


def save_checkpoint(path: Address, state: Mapping[str, Any]) -> None:
    """Store tensors and plain values; the old file stays until the new one is complete.

    Raises:
        OSError: The file cannot be written; an earlier checkpoint survives.
    """
    _replace(path, lambda temporary: torch.save({**state, "format": FORMAT}, temporary))


def load_checkpoint(path: Address) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` stored, onto the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, a pickle, or something else altogether.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {os.fspath(path)}")
    try:
        with warnings.catch_warnings():  # of strange files; the sentence below says it all
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(
            f"{os.fspath(path)} is damaged or no checkpoint of snnlib; nothing was changed"
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"{os.fspath(path)} is no checkpoint of snnlib; nothing was changed")
    return state


def move_aside(checkpoint: Address, resume: Address | None) -> None:
    """Keep the checkpoint of an earlier run as ``NAME.old``, unless we go on from it.

    One that holds no finished epoch is not worth it: it would push out a better ``.old``.
    """
    path = Path(checkpoint)
    if path.exists() and (resume is None or not path.samefile(resume)) and _has_epochs(path):
        os.replace(path, f"{path}.old")


def _has_epochs(path: Path) -> bool:
    """Whether a checkpoint holds a finished epoch; of another file nobody knows, so: yes."""
    try:
        return bool(load_checkpoint(path).get("history", True))
    except ValueError:
        return True


def refuse_other_settings(
    path: Address, stored: Mapping[str, Any], wanted: Mapping[str, Any], free: Container[str]
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
    path: Address, weights: Mapping[str, Tensor], *, record_id: str = "", half: bool = False
) -> None:
    """Keep the weights of a network as safetensors.

    Args:
        path: Where; the folder is made.
        weights: ``network.state_dict()``.
        record_id: The run they come from; stored in the file.
        half: Store floating-point tensors in float16, half the size.
    """
    tensors = {}
    for name, tensor in weights.items():
        shrink = half and tensor.is_floating_point()
        kept = tensor.detach().cpu().to(torch.float16 if shrink else tensor.dtype)
        tensors[name] = kept.clone(memory_format=torch.contiguous_format)
    _replace(path, lambda name: save_file(tensors, name, metadata={"record_id": record_id}))


def load_weights(path: Address) -> tuple[dict[str, Tensor], str]:
    """Read weights back, in float32, and the id of their record.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no safetensors file, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {os.fspath(path)}")
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            record_id = (stored.metadata() or {}).get("record_id", "")
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is damaged or no safetensors file") from error
    widen = {torch.float16: torch.float32}
    return {name: t.to(widen.get(t.dtype, t.dtype)) for name, t in tensors.items()}, record_id


def _replace(path: Address, write: Callable[[str], object]) -> None:
    """Write beside the target, then rename: readers see the old file or the new one."""
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(str(temporary))
        temporary.chmod(mode)  # safetensors shuts out everybody else
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError, SafetensorError) as error:  # each tells a full disk its way
        reason = getattr(error, "strerror", None) or "is the disk full?"
        kept = "the older file of that name is kept" if target.exists() else "no file was begun"
        raise OSError(f"{target} could not be written ({reason}); {kept}") from error
    finally:
        temporary.unlink(missing_ok=True)
