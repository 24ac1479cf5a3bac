"""All speed comparisons, one after another: ``make bench`` or ``snnlib bench``.

    python bench/run.py [--rounds 7] [--json bench.json] [--keep]

The peers come with ``pip install -e '.[bench]'``; one that is missing is left
out. Nothing else should run on the machine meanwhile. The tables are printed;
``--keep`` also makes them the figures that the book shows.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from snnlib.checks.files import check_writable, named_path, write_whole
from snnlib.records.bench_results import FIGURES, Bench, bench_from, bench_path

SCRIPTS = ("bench_fc.py", "bench_csnn.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="where to write the figures of both networks")
    parser.add_argument("--keep", action="store_true", help=f"write {bench_path().name} too")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    targets = places(options.json, options.keep)
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            figures = Path(folder) / f"{script}.json"
            # A process each: neither inherits the other's memory, threads or kernels.
            command = [sys.executable, str(Path(__file__).with_name(script))]
            command += ["--rounds", str(options.rounds), "--json", str(figures)]
            subprocess.run(command, check=True)
            parts.append(json.loads(figures.read_text()))
    whole = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": parts[0]["machine"],
        "rows": [row for part in parts for row in part["rows"]],
        "details": {what: race for part in parts for what, race in part["details"].items()},
    }
    check(bench_from(whole))
    text = json.dumps(whole, indent=1) + "\n"
    for path in targets:
        write_whole(path, lambda name: Path(name).write_text(text, encoding="utf-8"))
        print(f"written: {path}")


def check(bench: Bench) -> None:
    """Refuse figures that no clock gives, before the book shows them."""
    for row in bench.rows:
        if not 0 < row.low <= row.median <= row.high < math.inf:
            raise ValueError(f"{row.what!r} needs 0 < min <= median <= max, got {row}")
    for title, race in bench.seconds.items():
        if len({len(rounds) for rounds in race.values()}) != 1:
            raise ValueError(f"{title!r} needs the same number of rounds for all, got {race}")
        if not all(0 < second < math.inf for rounds in race.values() for second in rounds):
            raise ValueError(f"{title!r} needs seconds greater than 0, got {race}")


def places(chosen: str | None, keep: bool) -> list[Path]:
    """Where the figures go; a file of another kind is refused before an hour of measuring."""
    try:
        found = [] if chosen is None else [named_path("--json", chosen)]
        for path in found:
            check_writable("--json", path, FIGURES)
    except ValueError as error:
        sys.exit(f"snnlib: {error}")
    return [*found, *([bench_path()] if keep else [])]


if __name__ == "__main__":
    main()
