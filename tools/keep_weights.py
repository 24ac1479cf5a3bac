"""Keep the weights of a recorded run inside the package, in half precision.

    python tools/keep_weights.py runs/csnn-best-honest-s0.safetensors
    python tools/keep_weights.py WEIGHTS --record RECORD_ID --overwrite

The weights are tested on all test images before and after rounding to float16.
Nothing is written if the accuracy is not that of the record, or the file is too
large. ``tests/experiments/test_stored_weights.py`` repeats the test.
"""

from __future__ import annotations

import argparse
import sys

from snnlib.experiments.stored_weights import keep_weights


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", help="a file of `snnlib train --save-model`")
    parser.add_argument("--record", default="", help="its record, if the file does not name it")
    parser.add_argument("--overwrite", action="store_true", help="renew weights kept already")
    given = parser.parse_args()
    try:
        path, kept = keep_weights(given.weights, given.record, overwrite=given.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{path}: {path.stat().st_size} bytes, {kept.accuracy:.2%} of {kept.n_images} images")


if __name__ == "__main__":
    main()
