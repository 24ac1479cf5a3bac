"""``python -m snnlib`` is the command ``snnlib``."""

import sys

from snnlib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
