"""Checks of arguments, shared by all: what is exact is accepted, what is not is refused by name.

Numbers may come from Python, NumPy or PyTorch, arrays from NumPy or PyTorch; what
the caller gets back is Python's own number, or a tensor of the type it asked for.
Nothing is rounded, guessed or truncated on the way: a value that cannot be taken
as it is ends in a ``ValueError`` with the name of the argument, what is allowed,
what was given and, where there is one, the cure.

No torch is needed to check a number.
"""

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
FLOAT32_MAX = 3.4028234663852886e38  # what is larger is infinite in float32


def refuse(name: str, allowed: str, value: object, cure: str = "") -> NoReturn:
    """Raise the one form of refusal: ``NAME must be ALLOWED, got VALUE; CURE``."""
    raise ValueError(f"{name} must be {allowed}, got {told(value)}" + (f"; {cure}" if cure else ""))


def told(value: object) -> str:
    """A value in a few words; of a tensor or an array, its type and shape."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and len(shape):
        kind = "tensor" if type(value).__module__.startswith("torch") else "array"
        called = str(dtype).removeprefix("torch.")
        return f"a{'n' * called.startswith('i')} {called} {kind} of shape {list(shape)}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]} ... ({type(value).__name__})"


def whole_number(
    name: str, value: object, least: int | None = None, most: int | None = None
) -> int:
    """``value`` as an ``int`` from ``least`` to ``most``; floats and booleans are refused."""
    plain = _plain(value)
    fits = isinstance(plain, Integral) and not isinstance(plain, bool)
    is_long = fits and least is not None and most is None and plain >= 2**63  # type: ignore
    if fits and not is_long and _within(plain, least, most):
        return int(plain)  # type: ignore[call-overload]
    bounds = f" in {least}..{most}" if None not in (least, most) else _bounds(least, most)
    refuse(name, f"a whole number{bounds}", value, "64 bits end at 2**63" if is_long else "")


def number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a ``float``, finite in float32 too; ``above`` and ``below`` are exclusive."""
    plain = _plain(value)
    try:
        fits = isinstance(plain, Real) and not isinstance(plain, bool) and float(plain) == plain
        fits = fits and abs(float(plain)) <= FLOAT32_MAX  # type: ignore[arg-type]
    except OverflowError:
        fits = False
    if fits and _within(plain, least, most) and _within(plain, above, below, strict=True):
        return float(plain)  # type: ignore[arg-type]
    is_long = isinstance(plain, Real) and FLOAT32_MAX < abs(plain) < math.inf  # type: ignore
    cure = "float32 ends at 3.4e+38" if is_long else ""
    refuse(name, "a finite number" + _bounds(least, most, above, below), value, cure)


def yes_or_no(name: str, value: object) -> bool:
    """``value`` as a ``bool``; numbers and texts are refused."""
    plain = _plain(value)
    return plain if isinstance(plain, bool) else refuse(name, "True or False", value)


def one_of(name: str, value: T, allowed: Iterable[T]) -> T:
    """``value``, which must be one of ``allowed``, and of the same type."""
    offer = list(allowed)
    if any(type(value) is type(known) and value == known for known in offer):
        return value
    refuse(name, "one of " + ", ".join(map(str, offer)), value)


def text(name: str, value: object, empty: bool = False) -> str:
    """``value`` as a ``str``; one without any letter is refused unless it may be ``empty``."""
    if isinstance(value, str) and (empty or value.strip()):
        return str(value)
    refuse(name, "a text" if empty else "a text that is not empty", value)


def instance(name: str, value: object, *kinds: type[T]) -> T:
    """``value``, which must be of one of these classes."""
    if isinstance(value, kinds):
        return value
    refuse(name, " or ".join(kind.__name__.replace("NoneType", "None") for kind in kinds), value)


def keep_exact(config: Any, ranges: Mapping[str, Mapping[str, Any]]) -> None:
    """Store the numbers, texts and booleans of a dataclass as Python's own, or refuse them.

    What a field takes is told by its annotation: ``int``, ``float``, ``bool``, ``str``, a
    tuple of one of them, each with ``| None`` or without. Fields of other types stay as
    they are.

    Args:
        config: The instance, frozen or not; call this in its ``__post_init__``.
        ranges: Further limits of a field by its name, as arguments of the check of its
            type: ``{"tau": {"above": 1}}``.
    """
    for field in fields(config):
        given = getattr(config, field.name)
        taken = _exact(field.name, given, field.type, ranges.get(field.name, {}))
        if taken is not given:
            object.__setattr__(config, field.name, taken)


def tensor(name: str, value: object) -> "Tensor":
    """A dense tensor of real numbers or booleans; an array of NumPy becomes one.

    A writable array shares its memory with the tensor, as ``torch.from_numpy`` does. The type
    stays, unless PyTorch hardly computes with it: then it is a wider one of the same values.
    """
    import numpy as np
    import torch

    wanted = "a torch tensor or a NumPy array"
    if isinstance(value, np.ma.MaskedArray):
        refuse(name, wanted, value, "a mask would be lost; fill it first, with .filled(0)")
    if isinstance(value, np.ndarray):
        value = _from_numpy(name, value)
    if not isinstance(value, torch.Tensor):
        listed = value if isinstance(value, list | tuple) else None
        maker = "np.stack" if hasattr((*(listed or ()), 0)[0], "__array__") else "torch.as_tensor"
        cure = "" if listed is None else f"{maker} makes one of a list"
        if hasattr(value, "to_numpy"):
            cure = "its .to_numpy() is one"
        if hasattr(value, "getdata"):  # a picture of PIL
            cure = "np.asarray(picture, np.float32) / 255 is one, for a grey picture"
        raise ValueError(
            f"{name} must be {wanted}, got {_kind(value)}" + (f"; {cure}" if cure else "")
        )
    allowed = "a dense tensor of real numbers"
    if value.is_nested or value.is_meta:  # its shape or its values cannot be told
        refuse(name, allowed, f"a {'nested' if value.is_nested else 'meta'} one")
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        refuse(name, allowed, value)
    if value.dtype in (torch.uint16, torch.uint32, torch.uint64):
        signed = value.to(torch.int64)
        return refuse(name, "below 2**63", value) if bool((signed < 0).any()) else signed
    return value.float() if value.is_floating_point() and value.itemsize == 1 else value


def float_tensor(name: str, value: object, dtype: "torch.dtype | None" = None) -> "Tensor":
    """A floating-point tensor with exactly the values given, in ``dtype`` if one is named.

    Args:
        name: The argument, for the refusal.
        value: A tensor or array of any real type; whole numbers and booleans become
            float32 if ``dtype`` is left out.
        dtype: The type to return, say that of the weights; kept if left out.

    Raises:
        ValueError: It is no array, or a value would have to be rounded.
    """
    import torch

    given = tensor(name, value)
    wanted = dtype or (given.dtype if given.is_floating_point() else torch.float32)
    if given.dtype == wanted:
        return given
    converted = given.to(wanted)
    with torch.no_grad():
        back, original = converted.to(torch.float64), given.to(torch.float64)
        exact = bool(((back == original) | original.isnan()).all())
        if not given.is_floating_point() and given.dtype != torch.bool and given.numel():
            low, high = (int(bound) for bound in given.aminmax())
            exact = exact and low >= -(2**53) and high <= 2**53
    if not exact:
        type_name = str(wanted).removeprefix("torch.")
        cure = f"round it yourself with .to(torch.{type_name}), in NumPy .astype('{type_name}')"
        refuse(name, f"{type_name}, or exact in it", value, cure)
    return converted


def image_tensor(
    name: str, value: object, dtype: "torch.dtype | None" = None, unread: bool = False
) -> "Tensor":
    """As :func:`float_tensor`, finite; whole numbers are refused: do they go to 1 or to 255?

    With ``unread`` nobody asks whether they are finite, so that no GPU has to be waited for.
    """
    given = tensor(name, value)
    if not given.is_floating_point():
        cure = "divide by 255 if they are grey values from 0 to 255"
        refuse(name, "floating point numbers", value, cure)
    converted = float_tensor(name, given, dtype)
    return converted if unread else finite(name, converted)


def grey_tensor(name: str, value: object, dtype: "torch.dtype | None" = None) -> "Tensor":
    """As :func:`image_tensor`, and all values in [0, 1]."""
    given = image_tensor(name, value, dtype)
    if not given.numel():
        return given
    low, high = (bound.item() for bound in given.detach().aminmax())
    if low < 0 or high > 1:
        cure = "leave out the normalisation step" if low < 0 else "scale them to [0, 1]"
        if low >= 0 and 1.5 < high <= 255:
            cure = "divide by 255"
        raise ValueError(
            f"{name} must be grey values in [0, 1], got {low:.4g} to {high:.4g}; {cure}"
        )
    return given


def label_tensor(
    name: str, value: object, n_labels: int | None = None, n_classes: int | None = None
) -> "Tensor":
    """Class numbers ``[N]`` as int64, from 0 to ``n_classes - 1``; no floats, no booleans.

    Args:
        name: The argument, for the refusal.
        value: A tensor or array of whole numbers.
        n_labels: How many there must be.
        n_classes: How many classes there are.
    """
    import torch

    given = tensor(name, value)
    if given.is_floating_point() or given.dtype == torch.bool:
        cure = "convert them with .long(), in NumPy .astype('int64'), if they are"
        refuse(name, "whole numbers, one class each", value, cure)
    if given.dim() != 1 or (n_labels is not None and len(given) != n_labels):
        refuse(name, f"of shape [{'N' if n_labels is None else n_labels}]", value)
    labels = given.to(torch.int64)
    if len(labels) and n_classes is not None:
        low, high = (bound.item() for bound in labels.aminmax())
        if low < 0 or high >= n_classes:
            raise ValueError(f"{name} must lie in 0..{n_classes - 1}, got {low} to {high}")
    return labels


def finite(name: str, values: "Tensor") -> "Tensor":
    """``values``, none of which may be NaN or infinite."""
    import torch

    looked_at = values.detach()
    # A view that repeats its first step needs no more than that step looked at.
    while looked_at.dim() and looked_at.stride(0) == 0 and len(looked_at) > 1:
        looked_at = looked_at[0]
    if not bool(torch.isfinite(looked_at.sum())):  # a sum is quick, but may overflow
        n_bad = int((~torch.isfinite(looked_at)).sum())
        if n_bad:
            kind = "NaN" if bool(looked_at.isnan().any()) else "infinity"
            raise ValueError(
                f"{name} must be finite numbers, got {kind} ({n_bad} of {looked_at.numel()} values)"
            )
    return values


def _plain(value: object) -> object:
    """A single number of NumPy or PyTorch as Python's own; anything else as it is."""
    single = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    learns = getattr(value, "requires_grad", False)  # its gradient would be lost
    return value.item() if single and not learns else value  # type: ignore[attr-defined]


def _exact(name: str, value: object, kind: Any, limits: Mapping[str, Any]) -> Any:
    """``value`` as the annotation ``kind`` wants it."""
    if isinstance(kind, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        if len(options) > 1 or (value is None and len(options) < len(typing.get_args(kind))):
            return value
        kind = options[0]
    check: Any = {int: whole_number, float: number, bool: yes_or_no, str: text}.get(kind)
    if check is not None:
        return check(name, value, **limits)
    return _items(name, value, kind, limits) if typing.get_origin(kind) is tuple else value


def _items(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> tuple[Any, ...]:
    """A tuple out of a tuple, a list (JSON knows no tuples) or a row of NumPy."""
    item_type = typing.get_args(kind)[0]
    if isinstance(value, list | tuple) or getattr(value, "ndim", None) == 1:
        try:
            return tuple(_exact(name, item, item_type, limits) for item in value)
        except ValueError:
            pass
    what = {int: "whole numbers", float: "finite numbers", str: "texts"}.get(item_type, "values")
    refuse(name, f"a tuple of {what}" + _bounds(limits.get("least"), None, None, None), value)


def _within(value: Any, low: Any, high: Any, strict: bool = False) -> bool:
    if strict:
        return (low is None or value > low) and (high is None or value < high)
    return (low is None or value >= low) and (high is None or value <= high)


def _bounds(
    least: float | None, most: float | None, above: float | None = None, below: float | None = None
) -> str:
    low = least if above is None else above
    high = most if below is None else below
    if low is not None and high is not None:
        left, right = "[" if above is None else "(", "]" if below is None else ")"
        return f" in {left}{low:g}, {high:g}{right}"
    if low is not None:
        return f" greater than {low:g}" if above is not None else f" of at least {low:g}"
    if high is not None:
        return f" less than {high:g}" if below is not None else f" of at most {high:g}"
    return ""


def _kind(value: object) -> str:
    """A short value as it is, of others the type: a list of all pixels tells nobody anything."""
    short = value is None or isinstance(value, bool | int | float | str)
    return told(value) if short else f"a {type(value).__name__}"


def _from_numpy(name: str, array: Any) -> Any:
    """A tensor of the same values; memory is shared unless PyTorch could not write to it."""
    import numpy as np
    import torch

    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        refuse(name, "an array of real numbers", array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(np.asarray(array))
