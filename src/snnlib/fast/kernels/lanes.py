"""Sixteen float32 numbers at once: a vector type for numba kernels.

A processor adds sixteen numbers as fast as one, if they lie side by side. The
compiler often cannot prove that this is safe, so the kernels of ``events`` and
``fused`` say it themselves: ``row = load(table, i)`` fetches sixteen numbers,
``+ - * /`` work on all of them, ``store(table, i, row)`` puts them back. The
class below only tells numba that such a variable exists; each function is one
instruction of LLVM, numba's compiler, which knows every processor's own form.

There is no bounds check: position i counts in numbers, and i + 15 must exist.
"""

import functools
import operator
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

try:
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable
except Exception as error:  # a broken installation may raise anything
    missing = isinstance(error, ModuleNotFoundError) and error.name in ("numba", "llvmlite")
    reason = "install it with 'pip install numba'"
    if not missing:
        told = (str(error) or type(error).__name__).splitlines()[0]
        reason = (
            f"it is installed, but cannot be imported ({told}); "
            "'pip install -U numba numpy' brings versions that go together"
        )
    raise ImportError(
        f"The fast kernels of snnlib need numba; {reason}, "
        "or use the plain torch path (--engine torch)."
    ) from error

LANES = 16


class LaneType(types.Type):
    """What numba calls a variable that holds sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes16xFloat32")


_LANE_TYPE = LaneType()
_LLVM_TYPE = ir.VectorType(ir.FloatType(), LANES)


@register_model(LaneType)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _LLVM_TYPE)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on first use and keep the result on disk where that is possible.

    Kernels release Python's lock, so that plain threads can share a batch.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder at all that numba may write to
        return njit(nogil=True, error_model="numpy")(function)


def check_float32(**tensors: Tensor) -> None:
    """Refuse, by name, tensors whose memory the kernels would take for float32."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not tensor.is_cpu:
            raise ValueError(
                f"{name} must be float32 on the CPU, got {tensor.dtype} on {tensor.device}"
            )


def split(n_items: int, chunk: int, n_most: int = 8) -> list[tuple[int, int]]:
    """Cut a batch into parts ``(first, last)``, the same for any number of threads.

    So partial sums, and with them the rounding of a gradient, never depend on the
    machine.
    """
    n_parts = max(1, min(n_most, n_items // chunk))
    ends = [n_items * (i + 1) // n_parts for i in range(n_parts)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def share(
    parts: list[tuple[int, int]], n_threads: int, work: Callable[[int, int, int], object]
) -> None:
    """Call ``work(part, first, last)`` for every part, on up to ``n_threads`` threads.

    Plain threads rather than numba's ``prange``, whose first use would reset
    torch's own number of threads.
    """
    calls = [(i, *part) for i, part in enumerate(parts)]
    n_workers = min(n_threads, len(calls))

    def run(worker: int) -> None:
        for call in calls[worker::n_workers]:
            work(*call)

    # The calling thread takes its own turn: one thread fewer to wake up.
    others = [_pool(n_threads, os.getpid()).submit(run, worker) for worker in range(1, n_workers)]
    run(0)
    for other in others:
        other.result()


@functools.cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Threads to share a batch; a forked process needs its own, hence the second argument."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="snnlib")


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, position: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    start = builder.gep(data, [position])
    return builder.bitcast(start, _LLVM_TYPE.as_pointer())


@intrinsic
def load(typing_context: Any, table: Any, position: Any) -> Any:
    """Sixteen numbers of the one-dimensional float32 array ``table``, from ``position`` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, table, args[0], args[1])
        return builder.load(place, align=4)

    return _LANE_TYPE(table, types.intp), code


@intrinsic
def store(typing_context: Any, table: Any, position: Any, lanes: Any) -> Any:
    """Write sixteen numbers into ``table``, from ``position`` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, table, args[0], args[1])
        builder.store(args[2], place, align=4)
        return context.get_dummy_value()

    return types.void(table, types.intp, _LANE_TYPE), code


@intrinsic
def copy_shifted(
    typing_context: Any, source: Any, begin: Any, shift: Any, target: Any, position: Any
) -> Any:
    """Copy sixteen int32 numbers of ``source`` to ``target``, with ``shift`` added to each."""
    numbers = ir.VectorType(ir.IntType(32), LANES)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = []
        for array_type, array, start in ((source, *args[:2]), (target, *args[3:])):
            data = context.make_array(array_type)(context, builder, array).data
            places.append(builder.bitcast(builder.gep(data, [start]), numbers.as_pointer()))
        first = ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(ir.Constant(numbers, ir.Undefined), args[2], first)
        everywhere = builder.shuffle_vector(one, one, ir.Constant(numbers, [0] * LANES))
        moved = builder.add(builder.load(places[0], align=4), everywhere)
        builder.store(moved, places[1], align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.int32, target, types.intp), code


@intrinsic
def fill(typing_context: Any, number: Any) -> Any:
    """Sixteen copies of one number."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(ir.Constant(_LLVM_TYPE, ir.Undefined), args[0], first)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, one, everywhere)

    return _LANE_TYPE(types.float32), code


@intrinsic
def where_reached(
    typing_context: Any, x: Any, threshold: Any, if_reached: Any, otherwise: Any
) -> Any:
    """In each lane ``if_reached`` where ``x >= threshold``, else ``otherwise``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        reached = builder.fcmp_ordered(">=", args[0], args[1])
        return builder.select(reached, args[2], args[3])

    return _LANE_TYPE(*[_LANE_TYPE] * 4), code


def _define_operator(symbol: Callable[..., Any], instruction: str) -> None:
    """Let ``a + b`` on two lane variables be one instruction."""

    @type_callable(symbol)
    def typer(context: Any) -> Any:
        return lambda a, b: _LANE_TYPE if a is b is _LANE_TYPE else None

    @lower_builtin(symbol, LaneType, LaneType)
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _symbol, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():
    _define_operator(_symbol, _instruction)


@intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Position of the lowest 1 in a 64-bit word; 64 if there is none."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.int64(types.uint64), code
