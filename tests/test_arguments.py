"""Every public function and setting: exact numbers are taken from anywhere, others refused."""

import dataclasses
import inspect
import math
import types
import typing

import numpy as np
import pytest
import torch
from argument_table import (
    CALLS,
    FINITE,
    FLOAT32,
    GREY,
    LABELS,
    LEFT_OUT,
    MODULES,
    PICTURES,
    tensors_of,
)
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

TOLD = {"n_seeds": "seeds"}  # as the flag of the command line
MAY_BE_NAN = {("metrics.EpochMetrics", "loss")}  # how a run ends that diverges


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def arguments(*kinds):
    """Call and argument, for all arguments of the table of one of these types."""
    return [
        pytest.param(call, name, id=f"{call}-{name}")
        for call, (_, given, _) in CALLS.items()
        for name, value in given.items()
        if type(value) in kinds
    ]


def arrays(*properties):
    return [
        pytest.param(call, name, id=f"{call}-{name}")
        for call, (_, _, arrays) in CALLS.items()
        for name, wanted in arrays.items()
        if not properties or set(properties) & set(wanted)
    ]


def answer(call, **changes):
    function, given, _ = CALLS[call]
    return parts(function(**{**given, **changes}))


def parts(result):
    """What a result consists of, so that two can be compared to the last bit and type."""
    if isinstance(result, Tensor):
        return str(result.dtype), result.tolist()
    if isinstance(result, Axes):
        lines = [line.get_xydata().tolist() for line in result.lines]
        images = [(image.get_array().tolist(), image.get_clim()) for image in result.images]
        return lines, images, [patch.get_height() for patch in result.patches]
    if dataclasses.is_dataclass(result):
        return parts({k: v for k, v in vars(result).items() if k != "seconds"})
    if isinstance(result, dict):
        return {name: parts(value) for name, value in result.items()}
    if isinstance(result, list | tuple | np.ndarray):
        return [parts(value) for value in result]
    return type(result), result


def refused(call, name, value):
    with pytest.raises(ValueError, match=rf"^{TOLD.get(name, name)}\b.* must "):
        answer(call, **{name: value})


@pytest.mark.parametrize(("call", "name"), arguments(int))
def test_a_whole_number_may_be_one_of_numpy_or_torch_but_no_float_text_or_boolean(call, name):
    value = CALLS[call][1][name]
    expected = answer(call)
    for kind in (np.int64, np.uint8, np.array, torch.tensor):
        assert answer(call, **{name: kind(value)}) == expected
    learns = torch.tensor(float(value), requires_grad=True)
    for wrong in (float(value), np.float64(value), str(value), True, np.True_, math.nan, learns):
        refused(call, name, wrong)


@pytest.mark.parametrize(("call", "name"), arguments(float))
def test_a_number_may_be_one_of_numpy_or_torch_but_no_text_boolean_or_nan(call, name):
    value = CALLS[call][1][name]
    expected = answer(call)
    for kind in (np.float64, np.float32, np.array, torch.tensor):
        assert answer(call, **{name: kind(value)}) == expected
    learns = torch.tensor(value, requires_grad=True)
    for wrong in (str(value), True, np.True_, 1j, [value], learns):
        refused(call, name, wrong)
    if (call, name) not in MAY_BE_NAN:
        for wrong in (math.nan, math.inf, -math.inf, np.float32("nan")):
            refused(call, name, wrong)


@pytest.mark.parametrize(("call", "name"), arguments(bool))
def test_yes_and_no_are_no_numbers_and_no_texts(call, name):
    value = CALLS[call][1][name]
    assert answer(call, **{name: np.bool_(value)}) == answer(call)
    for wrong in (int(value), str(value), None):
        refused(call, name, wrong)


@pytest.mark.parametrize(("call", "name"), arguments(tuple))
def test_a_tuple_may_be_a_list_as_in_json_but_no_text_and_no_single_number(call, name):
    value = CALLS[call][1][name]
    kind = np.int64 if type(value[0]) is int else np.float64
    for same in (list(value), [kind(item) for item in value]):
        assert answer(call, **{name: same}) == answer(call)
    for wrong in (str(value[0]), 7, {7, 8}, [math.nan, 2.0], ["1", "2"], [True, True]):
        refused(call, name, wrong)


@pytest.mark.parametrize(("call", "name"), arrays())
def test_an_array_of_numpy_is_as_good_as_a_tensor(call, name):
    assert answer(call, **{name: CALLS[call][1][name].numpy()}) == answer(call)
    if not tensors_of(CALLS[call][1]).keys() - {name}:
        return
    every = {name: value.numpy() for name, value in tensors_of(CALLS[call][1]).items()}
    assert answer(call, **every) == answer(call)


@pytest.mark.parametrize(("call", "name"), arrays())
def test_what_is_no_array_of_real_numbers_is_refused_by_name(call, name):
    shape = CALLS[call][1][name].shape
    strings = np.full(tuple(shape), "1")
    for wrong in ("text", None, strings, torch.ones(shape, dtype=torch.complex64), object()):
        if wrong is None and name == "v_initial":  # which may be left out
            continue
        refused(call, name, wrong)


@pytest.mark.parametrize(("call", "name"), arrays(FINITE, GREY))
def test_a_single_nan_is_refused_by_name(call, name):
    values = CALLS[call][1][name].clone()
    values.view(-1)[-1] = math.nan
    refused(call, name, values)
    refused(call, name, values.numpy())


@pytest.mark.parametrize(("call", "name"), arrays(FLOAT32))
def test_float64_is_taken_if_float32_holds_it_and_refused_with_its_cure_if_not(call, name):
    exact = CALLS[call][1][name].double()
    assert answer(call, **{name: exact}) == answer(call)
    with pytest.raises(ValueError, match=rf"^{name} must be float32, .*astype\('float32'\)"):
        answer(call, **{name: exact / 3})


@pytest.mark.parametrize(("call", "name"), arrays(PICTURES, GREY))
def test_whole_numbers_and_booleans_are_no_pictures(call, name):
    for kind in (torch.uint8, torch.int64, torch.bool):
        refused(call, name, (CALLS[call][1][name] > 0).to(kind))


@pytest.mark.parametrize(("call", "name"), arrays(GREY))
def test_grey_values_from_0_to_255_are_told_to_be_divided(call, name):
    with pytest.raises(ValueError, match=rf"^{name} must be grey values .*; divide by 255"):
        answer(call, **{name: CALLS[call][1][name] * 255})


@pytest.mark.parametrize(("call", "name"), arrays(LABELS))
def test_labels_are_whole_numbers_of_any_type(call, name):
    labels = CALLS[call][1][name]
    for kind in (np.uint8, np.int32, ">i4"):
        assert answer(call, **{name: labels.numpy().astype(kind)}) == answer(call)
    for wrong in (labels.float(), labels > 0, labels.numpy() + 0.5, labels[:, None]):
        refused(call, name, wrong)


def computes_with_numbers():
    """Arrays that are computed with: of whole numbers they are exact, and converted."""
    special = {LABELS, PICTURES, GREY}
    return [p for p in arrays() if not special & set(CALLS[p.values[0]][2][p.values[1]])]


@pytest.mark.parametrize(("call", "name"), computes_with_numbers())
def test_whole_numbers_are_converted_and_not_computed_with(call, name):
    whole = (CALLS[call][1][name] * 2).round().abs()
    expected = answer(call, **{name: whole})
    for kind in (torch.int64, torch.uint8, torch.int16):
        assert answer(call, **{name: whole.to(kind)}) == expected


# Steps, plots, and a pass by hand: nothing to be differentiated.
NO_SLOPE = (
    "activity.silent",
    "bptt",
    "forward_forward.labels",
    "mnist.pictures",
    "plotting",
    "readout.predict",
    "surrogate.heaviside",
    "theory.first",
)


@pytest.mark.parametrize(
    ("call", "name"),
    [p for p in computes_with_numbers() if not p.id.startswith(NO_SLOPE)],
)
def test_gradients_flow_through_a_conversion(call, name):
    function, given, _ = CALLS[call]
    learns = given[name].double().requires_grad_()
    result = function(**{**given, name: learns})
    outputs = result if isinstance(result, tuple) else (result,)
    sum(x.sum() for x in outputs).backward()
    assert learns.grad is not None


def takes_numbers(annotation):
    """Whether an argument of this type is a number, an array, or a tuple of numbers."""
    if isinstance(annotation, types.UnionType):
        return any(takes_numbers(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return any(takes_numbers(item) for item in typing.get_args(annotation))
    return annotation in (int, float, Tensor)


def public_functions(module):
    """Functions, classes and methods of a module, by name."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
        for owner in reversed(thing.__mro__ if inspect.isclass(thing) else ()):
            if owner.__module__ == module.__name__:
                methods = {k: v for k, v in vars(owner).items() if inspect.isfunction(v)}
                yield from ((f"{name}.{k}", v) for k, v in methods.items() if k[0] != "_")


def test_no_public_argument_that_is_a_number_or_an_array_is_missing_from_the_table():
    covered = {
        (call.split(",")[0], name) for call, (_, given, _) in CALLS.items() for name in given
    }
    missing = []
    for module in MODULES:
        for name, thing in public_functions(module):
            full = f"{module.__name__.removeprefix('snnlib.')}.{name}"
            if full in LEFT_OUT or (inspect.isclass(thing) and issubclass(thing, Exception)):
                continue
            wanted = inspect.signature(thing, eval_str=True).parameters.values()
            missing += [
                f"{full}({p.name})"
                for p in wanted
                if takes_numbers(p.annotation) and (full, p.name) not in covered
            ]
    assert missing == []


def test_every_array_of_the_table_says_what_it_must_be():
    for call, (_, given, described) in CALLS.items():
        assert tensors_of(given).keys() == described.keys(), call
