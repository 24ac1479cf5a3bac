"""A few real images that several files of tests look at."""

import pytest


@pytest.fixture(scope="session")
def training_images():
    """240 training images, as many of each digit."""
    from snnlib.data import load_mnist  # here, so that tests without images need not load torch

    return load_mnist(train=True, limit=240)


@pytest.fixture(scope="session")
def test_images():
    """60 test images, as many of each digit."""
    from snnlib.data import load_mnist

    return load_mnist(train=False, limit=60)
