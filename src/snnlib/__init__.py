"""Spiking neural networks on MNIST: one idea per module; folders hold the machinery.

The book's ideas, in the order of reading:

    data, encoding       images, and images as spikes
    neurons, theory      charge, fire, reset; and what follows in closed form
    surrogate, bptt      a slope for a step, and the chain rule through time by hand
    networks, readout    the posts' networks, and what their spikes say
    hidden, activity     hidden layers, recurrent or not, and what they do
    training, metrics    a loop over epochs, and what it tells
    augment, memory      moved images; numbers kept for the way back
    anytime, operations  answers after each step; additions and products of any network
    conversion           a trained ReLU network turned into a spiking one
    intervals, plotting  how far a number can be trusted, and how it is shown
"""

__version__ = "0.1.0"
