"""All speed comparisons, one after another: ``make bench`` or ``snnlib bench``.

    python bench/run.py [--rounds 7] [--json bench.json]

The peers come with ``pip install -e '.[bench]'``; one that is missing is left
out. Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = ("bench_fc.py", "bench_csnn.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures of both networks")
    options = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            figures = Path(folder) / f"{script}.json"
            # A process each: neither inherits the other's memory, threads or kernels.
            command = [sys.executable, str(Path(__file__).with_name(script))]
            command += ["--rounds", str(options.rounds), "--json", str(figures)]
            subprocess.run(command, check=True)
            parts.append(json.loads(figures.read_text()))
    if options.json is not None:
        rows = [row for part in parts for row in part["rows"]]
        details = {what: figure for part in parts for what, figure in part["details"].items()}
        whole = {"machine": parts[0]["machine"], "rows": rows, "details": details}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
