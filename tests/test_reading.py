"""What a stored reading says about itself: by hand, on numbers that fit on one line."""

import pytest

from snnlib.anytime import Reading
from snnlib.operations import energy_pj

# Two steps. The image enters conv1 as numbers; only conv2 and dense1 see spikes.
READING = Reading(
    n_images=10,
    n_correct=[4, 7],
    synaptic_operations={"conv2": [30.0, 90.0], "dense1": [10.0, 60.0]},
    multiply_accumulates={"conv1": 100.0},
    nonzero_multiply_accumulates={"conv1": 25.0},
    connections={"conv1": 100, "conv2": 150, "dense1": 50},
)


def test_spikes_per_connection_leave_out_the_layer_that_sees_the_image():
    # 40 and 150 operations at 200 connections; conv1's 100 see no spike.
    assert READING.spikes_per_connection == pytest.approx([0.2, 0.75])


def test_spikes_below_the_break_even_are_cheaper_than_the_twin_and_above_it_dearer():
    # What conv1 multiplies costs both sides the same, so only spikes per connection decide.
    limit = energy_pj(0, 1) / energy_pj(1, 0)
    for factor in (0.99, 1.01):
        spikes = factor * limit
        operations = {"conv2": [spikes * 150], "dense1": [spikes * 50]}
        reading = Reading(
            n_images=10,
            n_correct=[5],
            synaptic_operations=operations,
            multiply_accumulates=READING.multiply_accumulates,
            connections=READING.connections,
        )
        assert reading.spikes_per_connection == pytest.approx([spikes])
        assert (reading.energy_pj[0] < reading.ordinary_energy_pj) == (factor < 1)


def test_a_network_that_sees_no_spikes_has_none_at_its_connections():
    ordinary = Reading(n_images=10, n_correct=[8], connections={"dense1": 50})
    assert ordinary.spikes_per_connection == [0.0]
