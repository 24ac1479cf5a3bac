import math

import pytest
import torch

from snnlib.encoding import poisson_encode
from snnlib.neurons import IFParameters, LIFParameters, simulate
from snnlib.theory import (
    firing_rate_curve,
    first_spike_step,
    poisson_rate_interval,
    subthreshold_potential,
)

NEURONS = [
    LIFParameters(tau=1.5),
    LIFParameters(tau=2.0, v_reset=-0.5),
    LIFParameters(tau=20.0),
    LIFParameters(tau=5.0, decay_input=False),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_potential_below_threshold_follows_the_closed_form(neuron):
    currents = torch.tensor([-0.7, 0.0, 0.15], dtype=torch.float64)  # too weak to fire in all
    simulated = simulate(currents.expand(60, -1), neuron)
    assert simulated.spikes.sum() == 0
    torch.testing.assert_close(simulated.v, subthreshold_potential(currents, 60, neuron))


def test_first_spike_by_hand():
    # tau = 2, X = 1.5: V goes 0.75, then 1.125 >= 1, so the second step fires.
    assert first_spike_step(torch.tensor(1.5), LIFParameters(tau=2.0)).item() == 2.0


def test_an_input_of_tau_fires_at_once_in_any_precision():
    # V[1] = X / tau = 1, the threshold itself.
    for tau in range(2, 60):
        for kind in (torch.float32, torch.float64):
            step = first_spike_step(torch.tensor(float(tau), dtype=kind), LIFParameters(tau=tau))
            assert step.item() == 1.0
            assert step.dtype == kind


def test_a_current_of_whole_numbers_is_taken_exactly():
    # tau = 2, X = 2: V[1] = 1 reaches the threshold, so the first step fires.
    step = first_spike_step(torch.tensor([2, 0]), LIFParameters())
    assert step.tolist() == [1.0, math.inf]
    potential = subthreshold_potential(torch.tensor(2), 2, LIFParameters())
    assert potential.tolist() == [1.0, 1.5]


def test_questions_without_an_answer_are_refused():
    with pytest.raises(ValueError, match="current must be finite numbers, got NaN"):
        first_spike_step(torch.tensor(math.nan), LIFParameters())
    with pytest.raises(ValueError, match="neuron must be LIFParameters"):
        first_spike_step(torch.ones(1), IFParameters())


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_simulated_neuron_first_fires_when_the_formula_says(neuron):
    currents = torch.tensor([0.1, 1.13, 1.7, 3.3, 100.0], dtype=torch.float64)
    spikes = simulate(currents.expand(200, -1), neuron).spikes
    fired = spikes.any(dim=0)
    first = torch.where(fired, spikes.argmax(dim=0) + 1.0, math.inf)
    assert torch.equal(first, first_spike_step(currents, neuron).float())


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_long_run_rate_lies_within_one_spike_of_the_curve(neuron):
    currents = torch.tensor([0.1, 1.13, 1.9, 4.7], dtype=torch.float64)
    n_steps = 3000
    rate = simulate(currents.expand(n_steps, -1), neuron).spikes.mean(0)
    assert ((rate - firing_rate_curve(currents, neuron)).abs() <= 1 / n_steps).all()


def test_no_neuron_fires_more_than_once_a_step_or_without_enough_input():
    curve = firing_rate_curve(torch.tensor([0.0, 1.0, 1e6]), LIFParameters())
    assert curve.tolist() == [0.0, 0.0, 1.0]


def test_a_soft_reset_has_no_such_curve():
    with pytest.raises(ValueError, match="v_reset must be a number"):
        firing_rate_curve(torch.ones(1), LIFParameters(v_reset=None))


def test_poisson_interval_covers_what_a_binomial_law_says():
    # Two standard errors cover 95.4 % of a normal law; 4000 pixels, counted.
    grey = torch.full((4000,), 0.3, dtype=torch.float64)
    spikes = poisson_encode(grey, 200, generator=torch.Generator().manual_seed(8))
    low, high = poisson_rate_interval(grey, 200)
    rate = spikes.mean(0)
    covered = ((rate >= low) & (rate <= high)).double().mean().item()
    assert 0.93 < covered < 0.98


def test_interval_is_a_point_for_black_and_white_and_bad_input_is_refused():
    low, high = poisson_rate_interval(torch.tensor([0.0, 1.0]), 10)
    assert low.tolist() == high.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"probability must be grey values in \[0, 1\], got 1.5"):
        poisson_rate_interval(torch.tensor([1.5]), 10)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        poisson_rate_interval(torch.tensor([0.5]), 0)
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        subthreshold_potential(torch.tensor([0.5]), 0, LIFParameters())
