"""What all files of tests share: the same dice for each test, and a few real images."""

import pytest
import torch

from snnlib.data import load_mnist


@pytest.fixture(autouse=True)
def _same_dice():
    """Each test throws the same dice, whichever tests ran before it in the same process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def training_images():
    """240 training images, as many of each digit."""
    return load_mnist(train=True, limit=240)


@pytest.fixture(scope="session")
def test_images():
    """60 test images, as many of each digit."""
    return load_mnist(train=False, limit=60)
