"""Files of weights: checkpoints to resume from, and safetensors to keep.

Nothing here is ever unpickled into code, and a file appears under its name only
when it is complete.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "snnlib checkpoint 1"

Address = str | os.PathLike[str]


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise ValueError(
            f"{os.fspath(path)} is damaged or no checkpoint of snnlib; nothing was changed"
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError(f"{os.fspath(path)} is no checkpoint of snnlib; nothing was changed")
    return state


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
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name + ".")
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # torch reports a full disk as a RuntimeError
            raise OSError(f"{target} could not be written: {error}") from error
        raise
