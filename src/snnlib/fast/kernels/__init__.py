"""Loops for the machine: read them last, and only to see where the speed comes from.

In the order of reading:

    event_bits      Poisson spikes as bits: 64 steps of a pixel are one word
    event_kernels   rates from those bits, and the gradient back
    fused_kernels   norm, neurons and max pool in one walk
    sparse_kernels  products with spikes, by adding up rows of a table
    lanes           sixteen numbers at once: a vector type for numba
    triton_kernels  the loops over time on a GPU
"""
