"""What is exact is accepted, what is lossy or ambiguous is refused by name."""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from snnlib.checks import (
    finite,
    float_tensor,
    grey_tensor,
    image_tensor,
    instance,
    keep_exact,
    label_tensor,
    number,
    one_of,
    tensor,
    text,
    told,
    whole_number,
    yes_or_no,
)


@pytest.mark.parametrize(
    "value",
    [5, np.int64(5), np.uint8(5), np.array(5), torch.tensor(5), torch.tensor(5, dtype=torch.uint8)],
)
def test_a_whole_number_may_come_from_python_numpy_or_torch(value):
    taken = whole_number("n", value, least=1)
    assert taken == 5
    assert type(taken) is int


@pytest.mark.parametrize(
    "value",
    [5.0, np.float64(5), "5", True, np.bool_(True), torch.tensor(True), None, [5], np.array([5])],
)
def test_what_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^n_steps must be a whole number"):
        whole_number("n_steps", value)


@pytest.mark.parametrize(
    ("least", "most", "allowed"),
    [(6, None, "of at least 6"), (None, 4, "of at most 4"), (6, 9, r"in 6\.\.9")],
)
def test_a_whole_number_out_of_range_is_told_the_range(least, most, allowed):
    with pytest.raises(ValueError, match=rf"^n must be a whole number {allowed}, got 5$"):
        whole_number("n", 5, least, most)


@pytest.mark.parametrize(
    "value",
    [2, 2.0, np.float32(2), np.int32(2), np.array(2.0), torch.tensor(2.0), Fraction(4, 2)],
)
def test_a_number_may_come_from_python_numpy_or_torch(value):
    taken = number("tau", value, above=1)
    assert taken == 2.0
    assert type(taken) is float


@pytest.mark.parametrize(
    "value",
    [
        "2.0",
        True,
        np.bool_(False),
        None,
        2j,
        float("nan"),
        float("inf"),
        -np.inf,
        10**400,
        2**53 + 1,
        Fraction(1, 3),
        [2.0],
        np.array([2.0]),
        torch.ones(1),
        torch.tensor(2.0, requires_grad=True),
    ],
)
def test_what_is_no_finite_number_or_must_be_rounded_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^tau must be a finite number"):
        number("tau", value)


@pytest.mark.parametrize(
    ("bounds", "allowed"),
    [
        (dict(above=5), "greater than 5"),
        (dict(least=6), "of at least 6"),
        (dict(most=4), "of at most 4"),
        (dict(below=5), "less than 5"),
        (dict(least=0, below=5), r"in \[0, 5\)"),
        (dict(above=5, most=7), r"in \(5, 7\]"),
    ],
)
def test_a_number_out_of_range_is_told_the_range(bounds, allowed):
    with pytest.raises(ValueError, match=rf"^x must be a finite number {allowed}, got 5$"):
        number("x", 5, **bounds)


FLOAT32_MAX = torch.finfo(torch.float32).max


def test_a_number_is_finite_in_float32_too():
    for value in (FLOAT32_MAX, -FLOAT32_MAX):
        assert number("tau", value) == value
    for value in (math.nextafter(FLOAT32_MAX, math.inf), 1e300, -1e300, 10**400):
        with pytest.raises(
            ValueError, match=r"^tau must be a finite .*; float32 ends at 3\.4e\+38"
        ):
            number("tau", value)


def test_a_count_has_no_more_than_64_bits():
    assert whole_number("n", 2**63 - 1, least=1) == 2**63 - 1
    assert whole_number("seed", -(2**70)) == -(2**70)  # no count
    with pytest.raises(ValueError, match=rf"^n must be .* at least 1, got {2**63}; 64 bits end"):
        whole_number("n", 2**63, least=1)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)])
def test_yes_may_come_from_python_numpy_or_torch(value):
    assert yes_or_no("normalise", value) is True


@pytest.mark.parametrize("value", [1, 0, "True", None, np.array([True])])
def test_numbers_and_texts_are_no_booleans(value):
    with pytest.raises(ValueError, match=r"^normalise must be True or False"):
        yes_or_no("normalise", value)


def test_a_choice_is_one_of_those_offered_and_of_their_type():
    assert one_of("anytime_steps", 1, (None, 1)) == 1
    with pytest.raises(ValueError, match="anytime_steps must be one of None, 1, got True"):
        one_of("anytime_steps", True, (None, 1))


def test_an_array_becomes_a_tensor_with_the_same_values_and_without_a_warning():
    backwards = np.arange(6, dtype=">f4").reshape(2, 3)[:, ::-1]
    locked = np.ones(2)
    locked.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tensor("x", backwards).tolist() == backwards.tolist()
        assert tensor("x", locked).dtype == torch.float64
    shared = np.zeros(2)
    tensor("x", shared)[0] = 1
    assert shared[0] == 1


@pytest.mark.parametrize(
    "value",
    [
        [1.0],
        "text",
        None,
        np.array(["a"]),
        np.array([1j]),
        torch.ones(2, dtype=torch.complex64),
        np.ma.array([1.0], mask=[True]),
        torch.eye(2).to_sparse(),
        np.array([None]),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^images must be .*, got "):
        tensor("images", value)


def test_exact_conversions_pass_and_rounding_is_refused_with_its_cure():
    float64 = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    assert torch.equal(float_tensor("x", float64, torch.float32), float64.float())
    assert float_tensor("x", torch.tensor([True, False])).tolist() == [1.0, 0.0]
    assert float_tensor("x", np.arange(3)).dtype == torch.float32
    for lossy in (float64 / 3, torch.tensor([2**24 + 1]), torch.tensor([2**63 - 1])):
        with pytest.raises(ValueError, match=r"^x must be float32, or exact in it, .*astype"):
            float_tensor("x", lossy, torch.float32)


def test_a_conversion_keeps_the_gradient():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    float_tensor("x", x, torch.float32).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [np.zeros((2, 3), np.uint8), torch.ones(2, dtype=torch.bool)])
def test_images_of_whole_numbers_are_ambiguous(value):
    with pytest.raises(ValueError, match=r"^images must be floating point .*divide by 255"):
        image_tensor("images", value)


@pytest.mark.parametrize(
    ("values", "cure"),
    [([0, 255.0], "divide by 255"), ([-0.4, 2.8], "normalisation"), ([0, 1.2], "scale them")],
)
def test_grey_values_outside_their_range_are_told_the_likely_cure(values, cure):
    with pytest.raises(ValueError, match=rf"^images must be grey values in \[0, 1\], .*{cure}"):
        grey_tensor("images", torch.tensor(values))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_found_and_counted(bad):
    values = torch.zeros(3, 4)
    values[1, 2] = bad
    with pytest.raises(ValueError, match=r"^x must be finite .*\(1 of 12 values\)"):
        finite("x", values)
    with pytest.raises(ValueError, match=r"1 of 12 values"):
        finite("x", values.expand(100, 3, 4))


def test_a_sum_that_overflows_is_no_fault_of_its_values():
    values = torch.full((4,), 3e38)
    assert finite("x", values) is values
    assert finite("x", torch.zeros(0)).numel() == 0


@pytest.mark.parametrize(
    "labels", [np.array([0, 9], np.uint8), torch.tensor([0, 9], dtype=torch.int32)]
)
def test_labels_of_any_whole_type_become_int64(labels):
    assert label_tensor("labels", labels, n_labels=2, n_classes=10).dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1.0, 2.0]), "whole numbers"),
        (torch.tensor([True, False]), "whole numbers"),
        (torch.tensor([1]), r"of shape \[2\]"),
        (torch.tensor([[1], [2]]), r"of shape \[2\]"),
        (torch.tensor([1, 10]), r"lie in 0\.\.9, got 1 to 10"),
        ([1, 2], "torch.as_tensor"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(labels, message):
    with pytest.raises(ValueError, match=rf"^labels must .*{message}"):
        label_tensor("labels", labels, n_labels=2, n_classes=10)


def test_a_refusal_tells_type_and_shape_of_an_array_and_shortens_long_texts():
    assert told(torch.zeros(2, 3)) == "a float32 tensor of shape [2, 3]"
    assert told(np.zeros(4)) == "a float64 array of shape [4]"
    assert len(told("x" * 1000)) < 120


def test_a_text_is_a_text_and_not_blank():
    assert type(text("name", np.str_("fc"))) is str
    assert text("notes", "", empty=True) == ""
    for value in ("", " ", None, 3, b"fc"):
        with pytest.raises(ValueError, match=r"^name must be a text that is not empty, got"):
            text("name", value)


def test_an_instance_is_of_one_of_the_classes_named():
    assert instance("seed", None, int, type(None)) is None
    with pytest.raises(ValueError, match=r"^seed must be int or None, got 1\.5"):
        instance("seed", 1.5, int, type(None))


@dataclass(frozen=True)
class Settings:
    n: int = 1
    lr: float = 0.5
    limit: int | None = None
    ready: bool = False
    name: str = "x"
    widths: tuple[int, ...] = (1, 2)


def test_fields_become_values_of_python_as_their_annotations_say():
    given = Settings(np.uint8(5), np.float32(1), np.int64(3), np.True_, np.str_("y"), [np.int8(4)])
    keep_exact(given, {"n": {"least": 1}})
    assert given == Settings(5, 1.0, 3, True, "y", (4,))
    kinds = [type(value) for value in vars(given).values()]
    assert kinds == [int, float, int, bool, str, tuple]
    assert type(given.widths[0]) is int
    keep_exact(empty := Settings(), {})
    assert empty == Settings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"n": None}, "n must be a whole number of at least 1, got None"),
        ({"lr": "0.5"}, "lr must be a finite number, got '0.5'"),
        ({"limit": 2.0}, "limit must be a whole number, got 2.0"),
        ({"ready": 1}, "ready must be True or False, got 1"),
        ({"name": 7}, "name must be a text that is not empty, got 7"),
        ({"widths": (1.5,)}, r"widths must be a tuple of whole numbers of at least 1, got \(1.5,"),
        ({"widths": "12"}, "widths must be a tuple of whole numbers of at least 1, got '12'"),
    ],
)
def test_a_field_that_is_no_such_thing_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        keep_exact(Settings(**changes), {"n": {"least": 1}, "widths": {"least": 1}})


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_numbers_are_taken_for_what_they_are(kind):
    given = torch.tensor([0, 1, 65535]).to(kind)
    assert torch.equal(float_tensor("x", given), torch.tensor([0.0, 1.0, 65535.0]))
    assert torch.equal(label_tensor("labels", given.numpy()), torch.tensor([0, 1, 65535]))


def test_a_label_too_large_for_int64_is_refused_and_not_wrapped_around():
    with pytest.raises(ValueError, match=r"labels must be below 2\*\*63"):
        label_tensor("labels", np.array([1, 2**63 + 1], np.uint64))


def test_floats_of_eight_bits_become_float32():
    given = torch.tensor([0.0, 0.5, 1.0]).to(torch.float8_e4m3fn)
    taken = grey_tensor("images", given)
    assert torch.equal(taken, torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_tensor_without_values_or_without_one_shape_is_refused():
    nested = torch.nested.nested_tensor([torch.rand(2), torch.rand(3)])
    for kind, given in (("meta", torch.rand(3, device="meta")), ("nested", nested)):
        with pytest.raises(ValueError, match=f"x must be a dense tensor of real numbers.*{kind}"):
            float_tensor("x", given)


def test_a_list_of_pictures_is_told_how_to_become_one_array():
    pictures = [np.zeros((28, 28), np.float32)] * 2
    with pytest.raises(ValueError, match=r"np\.stack makes one of a list"):
        tensor("images", pictures)
    with pytest.raises(ValueError, match=r"torch\.as_tensor makes one of a list"):
        tensor("images", [0.5, 1.0])
