import math

import pytest
import torch

from snnlib.surrogate import ATan, Sigmoid, heaviside

SURROGATES = [ATan(), ATan(0.7), Sigmoid(), Sigmoid(1.3)]


def test_a_neuron_exactly_at_its_threshold_fires():
    assert heaviside(torch.tensor([-1e-9, 0.0, 1e-9])).tolist() == [0.0, 1.0, 1.0]


def test_the_step_alone_passes_no_gradient_but_a_surrogate_passes_its_derivative():
    x = torch.tensor([-0.3, 0.0, 0.4], dtype=torch.float64, requires_grad=True)
    assert not heaviside(x).requires_grad

    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    surrogate = ATan(2.0)
    spikes = surrogate.spike(x)
    (spikes * weights).sum().backward()

    assert spikes.tolist() == [0.0, 1.0, 1.0]
    torch.testing.assert_close(x.grad, weights * surrogate.derivative(x.detach()))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
def test_derivative_is_the_finite_difference_of_the_primitive(surrogate):
    x = torch.linspace(-3, 3, 121, dtype=torch.float64)
    h = 1e-5
    difference = (surrogate.primitive(x + h) - surrogate.primitive(x - h)) / (2 * h)
    # The central difference is off by h^2/6 times the third derivative, below 1e-8 here.
    torch.testing.assert_close(surrogate.derivative(x), difference, rtol=0, atol=1e-8)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
def test_primitive_climbs_from_zero_to_one_and_is_one_half_at_the_threshold(surrogate):
    x = torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(surrogate.primitive(x), expected, rtol=0, atol=1e-5)


def test_slopes_at_the_threshold_are_alpha_over_two_and_over_four():
    zero = torch.zeros(1, dtype=torch.float64)
    assert math.isclose(ATan(3.0).derivative(zero).item(), 1.5)
    assert math.isclose(Sigmoid(3.0).derivative(zero).item(), 0.75)


def test_a_width_that_is_not_positive_is_refused():
    for surrogate in (ATan, Sigmoid):
        with pytest.raises(
            ValueError, match="alpha must be a finite number greater than 0, got -1"
        ):
            surrogate(-1.0)
