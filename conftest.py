"""Settings of one test run; the environment set here reaches every chapter kernel."""

import os

# Two workers with one thread each beat two workers that fight for the cores,
# and a fixed number of threads keeps the order of floating-point sums.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# A kernel chooses its own drawing backend; one set outside gives pages without figures.
os.environ.pop("MPLBACKEND", None)
# TensorFlow, where it is installed, is loaded by tensorboard and talks on stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_configure() -> None:
    """Draw without a screen in the tests themselves."""
    import matplotlib

    matplotlib.use("Agg")
