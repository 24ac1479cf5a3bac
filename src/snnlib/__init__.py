"""Spiking neural networks on MNIST: one idea per module, read from the top down.

Importing the package loads neither torch nor numba; each module loads what it
needs. Start with ``snnlib.neurons``.
"""

__version__ = "0.1.0"
