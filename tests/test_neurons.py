import math

import numpy as np
import pytest
import torch

from snnlib.neurons import (
    IFParameters,
    LIFParameters,
    neuron_step,
    simulate,
)


def test_three_steps_by_hand():
    # tau = 2, X = 1.5: H = 0.75, then 1.125 fires and resets to 0, then 0.75 again.
    trace = simulate(torch.full((3,), 1.5), LIFParameters(tau=2.0))
    assert trace.charged.tolist() == [0.75, 1.125, 0.75]
    assert trace.spikes.tolist() == [0.0, 1.0, 0.0]
    assert trace.v.tolist() == [0.75, 0.0, 0.75]


def test_soft_reset_keeps_what_is_above_the_threshold():
    _, spikes, v = neuron_step(torch.tensor(3.0), torch.tensor(0.0), LIFParameters(v_reset=None))
    assert (spikes.item(), v.item()) == (1.0, 0.5)  # H = 1.5, minus the threshold


def test_without_input_decay_the_input_is_not_divided_by_tau():
    charged, _, _ = neuron_step(
        torch.tensor(0.25), torch.tensor(0.5), LIFParameters(tau=4.0, decay_input=False)
    )
    assert charged.item() == 0.5 * 0.75 + 0.25


def test_an_if_neuron_forgets_nothing():
    # Four inputs of one quarter (exact in binary) reach the threshold at the fourth step.
    trace = simulate(torch.full((4,), 0.25), IFParameters())
    assert trace.spikes.tolist() == [0.0, 0.0, 0.0, 1.0]
    _, _, v = neuron_step(torch.tensor(0.25), torch.tensor(0.5), IFParameters())
    assert v.item() == 0.75


def test_potential_never_ends_a_step_at_or_above_the_threshold_after_a_hard_reset():
    currents = 3 * torch.randn(50, 200, generator=torch.Generator().manual_seed(1))
    trace = simulate(currents, LIFParameters(tau=1.5))
    assert (trace.v < 1.0).all()
    assert trace.spikes.sum() > 0


def test_soft_reset_conserves_charge_in_an_if_neuron():
    # Whatever came in is either still there or left in whole thresholds.
    currents = torch.rand(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    trace = simulate(currents, IFParameters(v_reset=None))
    torch.testing.assert_close(trace.v[-1] + trace.spikes.sum(0), currents.sum(0))


def test_a_run_can_be_cut_in_two_without_a_trace():
    currents = 2 * torch.rand(20, 5, generator=torch.Generator().manual_seed(3))
    neuron = LIFParameters(tau=3.0)
    whole = simulate(currents, neuron)
    first = simulate(currents[:8], neuron)
    second = simulate(currents[8:], neuron, v_initial=first.v[-1])
    assert torch.equal(whole.v, torch.cat([first.v, second.v]))


def test_impossible_constants_and_empty_input_are_refused():
    with pytest.raises(ValueError, match=r"tau must be a finite number greater than 1, got 1\.0"):
        LIFParameters(tau=1.0)
    with pytest.raises(ValueError, match=r"v_threshold must be above v_reset=0\.0, got -1"):
        LIFParameters(v_threshold=-1.0)
    with pytest.raises(ValueError, match="v_threshold must be above 0 with a reset by subtraction"):
        IFParameters(v_threshold=0.0, v_reset=None)
    with pytest.raises(ValueError, match=r"currents must be \[T, ...\]"):
        simulate(torch.zeros(0, 3), LIFParameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": "2"}, r"tau must be a finite number greater than 1, got '2'"),
        ({"tau": math.inf}, "tau must be a finite number greater than 1, got inf"),
        ({"tau": 1e300}, r"tau must be .* greater than 1, got 1e\+300; float32 ends at"),
        ({"v_threshold": math.nan}, "v_threshold must be a finite number, got nan"),
        ({"v_reset": -math.inf}, "v_reset must be a finite number, got -inf"),
        ({"decay_input": "no"}, "decay_input must be True or False, got 'no'"),
    ],
)
def test_constants_that_no_neuron_can_have_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LIFParameters(**settings)


def test_a_potential_of_another_shape_is_not_stretched():
    one, three = torch.tensor(0.0), torch.zeros(3)
    for step, neuron in ((neuron_step, LIFParameters()), (neuron_step, IFParameters())):
        with pytest.raises(ValueError, match=r"v must have the shape \[3\] of the input, got \[\]"):
            step(three, one, neuron)
        with pytest.raises(
            ValueError, match=r"current must be a torch tensor or a NumPy array, got 1.5"
        ):
            step(1.5, one, neuron)
    with pytest.raises(ValueError, match=r"v_initial must have the shape \[\] of the input"):
        simulate(three, LIFParameters(), v_initial=three)


@pytest.mark.parametrize("v_reset", [-0.65, None])
def test_currents_of_whole_numbers_start_at_rest_like_others(v_reset):
    # A potential of whole numbers would begin at 0 and not at -0.65.
    neuron = LIFParameters(v_reset=v_reset)
    whole = torch.tensor([[1, 3], [2, 0]])
    for expected, trace in zip(
        simulate(whole.float(), neuron), simulate(whole.numpy(), neuron), strict=True
    ):
        assert torch.equal(expected, trace)
        assert trace.dtype == torch.float32


def test_a_constant_that_would_learn_is_refused():
    learns = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(ValueError, match="tau must be a finite number greater than 1, got tensor"):
        LIFParameters(tau=learns)


def test_numbers_of_numpy_become_constants_of_python():
    neuron = LIFParameters(tau=np.float32(3), v_threshold=np.int64(1), detach_reset=np.True_)
    assert neuron == LIFParameters(tau=3.0, detach_reset=True)
    assert [type(value) for value in vars(neuron).values()] == [float, float, bool, float, bool]


def test_currents_that_are_nan_are_refused_where_nobody_learns():
    currents = torch.full((3, 2), math.nan)
    with pytest.raises(ValueError, match="currents must be finite numbers, got NaN"):
        simulate(currents, LIFParameters())
