"""From claims to runs and back: what is still missing, and how our numbers compare."""

import difflib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, replace
from typing import Any

from snnlib.checks import number, one_of, text, whole_number
from snnlib.intervals import difference_interval
from snnlib.records.ledger import markdown_table
from snnlib.records.record import RunRecord
from snnlib.settings.claims import BOTH, CLAIMS, Claim
from snnlib.settings.ff_presets import FF_PRESETS, RETIRED
from snnlib.settings.presets import PRESETS

# Where and how fast a run was computed; every record states them, none is part of the claim.
_FREE_SETTINGS = {"device", "engine", "amp", "question"}


class UnknownNameError(ValueError):
    """A preset or claim that does not exist; the message offers the nearest names."""


def find(name: str, known: Mapping[str, Any], kind: str, shown: Iterable[str] = ()) -> Any:
    """Look a name up.

    Raises:
        UnknownNameError: It does not exist; the message names the most similar, or if
            there is none those to be ``shown`` (all, if left out).
        ValueError: ``name`` is no text.
    """
    name = text("name", name, empty=True)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    offer = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(shown or known)}"
    raise UnknownNameError(f"there is no {kind} {name!r}; {offer}")


def find_preset(name: str) -> Any:
    """The settings of a preset, Forward-Forward ones included.

    Raises:
        UnknownNameError: There is no such preset, or none any more.
    """
    if name in RETIRED:
        raise UnknownNameError(
            f"preset {name!r} was tried and given up; its code is in commit {RETIRED[name]}, "
            "its record in the ledger"
        )
    return find(name, {**PRESETS, **FF_PRESETS}, "preset")


def find_claims(name: str) -> list[Claim]:
    """The claim of that name; or, by the name of a preset, what the claims ask of it alone.

    With ``:post`` or ``:honest`` behind the name, only the runs of that protocol.

    Raises:
        UnknownNameError: It is neither; the message names the most similar.
        ValueError: The claim has no runs of that protocol.
    """
    name, colon, protocol = text("name", name, empty=True).partition(":")
    claims = _claims_called(name)
    if not colon:
        return claims
    asked = [claim for claim in claims if protocol in claim.protocols]
    if not asked:
        known = dict.fromkeys(p for claim in claims for p in claim.protocols)
        raise ValueError(f"protocol of {name!r} must be {' or '.join(known)}, got {protocol!r}")
    return [replace(claim, protocols=(protocol,)) for claim in asked]


def _claims_called(name: str) -> list[Claim]:
    known = {name: [claim] for name, claim in CLAIMS.items()}
    for claim in CLAIMS.values():
        for preset in claim.presets:
            if preset not in CLAIMS:
                known.setdefault(preset, []).append(replace(claim, presets=(preset,)))
    if name not in known and name in {**PRESETS, **FF_PRESETS}:
        raise UnknownNameError(
            f"preset {name!r} belongs to no claim; run it with: snnlib train {name}"
        )
    return find(name, known, "claim", CLAIMS)


def planned_runs(claims: Iterable[Claim], n_seeds: int) -> list[Any]:
    """Every configuration that the claims ask for, each once, seeds 0 to ``n_seeds`` - 1.

    Raises:
        ValueError: ``n_seeds``, called seeds on the command line, is no whole number of
            at least 1.
    """
    n_seeds = whole_number("seeds", n_seeds, least=1)
    runs: list[Any] = []
    for seed in range(n_seeds):
        for claim in claims:
            for preset in claim.presets:
                if preset in RETIRED and len(claim.presets) > 1:
                    continue
                config = replace(find_preset(preset), seed=seed)
                if not hasattr(config, "protocol"):  # Forward-Forward knows one protocol each
                    runs.append(config)
                    continue
                runs += [replace(config, protocol=protocol) for protocol in claim.protocols]
    return [config for i, config in enumerate(runs) if config not in runs[:i]]


def is_recorded(config: Any, records: Iterable[RunRecord]) -> bool:
    """Whether some record has exactly these settings; the machine may differ."""
    return any(_repeats(record, config, _FREE_SETTINGS) for record in records)


def records_of(
    claim: Claim, records: Iterable[RunRecord], protocol: str, preset: str | None = None
) -> list[RunRecord]:
    """The recorded runs, of any seed, that answer a claim under one protocol.

    Args:
        claim: One of ``CLAIMS``.
        records: The ledger.
        protocol: ``"post"`` or ``"honest"``.
        preset: One of the claim's presets; the first if left out.

    Raises:
        ValueError: There is no such protocol.
    """
    one_of("protocol", protocol, BOTH)
    return runs_of(records, preset or claim.presets[0], protocol)


def runs_of(
    records: Iterable[RunRecord], preset: str, protocol: str | None = None
) -> list[RunRecord]:
    """The recorded runs of a preset, of any seed, with none of its settings changed.

    Args:
        records: The ledger.
        preset: Its name; one that was given up keeps its runs.
        protocol: ``"post"`` or ``"honest"``; both if left out, runs of the post's first.

    Returns:
        Of each protocol and seed the last line, in the order of their first lines.

    Raises:
        ValueError: There is no such protocol.
        UnknownNameError: There is no such preset.
    """
    if protocol is None:
        records = list(records)
        return [run for name in BOTH for run in runs_of(records, preset, name)]
    one_of("protocol", protocol, BOTH)
    config = None if preset in RETIRED else find_preset(preset)
    free = _FREE_SETTINGS | {"seed", "protocol"}
    found = [
        record
        for record in records
        if record.preset == preset
        and record.protocol == protocol
        and (config is None or _repeats(record, config, free))
    ]
    return list({record.seed: record for record in found}.values())


def claim_rows(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """One row per claim: the post's number, ours under both protocols, cost and command."""
    return [
        {
            "claim": claim.name,
            "post": "-" if claim.post is None else str(claim.post),
            "its number": claim.number,
            "ours, post's protocol": _ours(claim, records, "post"),
            "ours, honest": _ours(claim, records, "honest"),
            "minutes a run": minutes_a_run(claim, records),
            "command": f"snnlib reproduce {claim.name}",
        }
        for claim in CLAIMS.values()
    ]


def minutes_a_run(claim: Claim, records: Sequence[RunRecord]) -> str:
    """What the claim's runs took when they were recorded: median of its presets, least to most."""
    typical = []
    for preset in claim.presets:
        runs = [r for p in ("post", "honest") for r in records_of(claim, records, p, preset)]
        if runs:
            typical.append(max(1, round(statistics.median(r.seconds for r in runs) / 60)))
    if not typical:
        return "-"
    low, high = min(typical), max(typical)
    return f"{low}" if low == high else f"{low} to {high}"


def _ours(claim: Claim, records: Sequence[RunRecord], protocol: str) -> str:
    """What every preset that has run reached; of a comparison, each by its name."""
    runs = {name: records_of(claim, records, protocol, name) for name in claim.presets}
    done = {name: summary(found) for name, found in runs.items() if found}
    if len(claim.presets) == 1:
        return "".join(done.values()) or "-"
    return "; ".join(f"{name} {text}" for name, text in done.items()) or "-"


def summary(records: Sequence[RunRecord]) -> str:
    """Mean test accuracy over seeds with its spread, or the one with its interval.

    A record that was written twice counts once.
    """
    if not records:
        return "-"
    records = list({record.id: record for record in records}.values())
    if len(records) == 1:
        return str(records[0].result)
    percents = [100 * record.result.accuracy for record in records]
    return (
        f"{statistics.mean(percents):.2f}% (sd {statistics.stdev(percents):.2f}, "
        f"{_seeds(records)}, {records[0].n_test} images each)"
    )


def _seeds(records: Sequence[RunRecord]) -> str:
    seeds = len({record.seed for record in records})
    told = "1 seed" if seeds == 1 else f"{seeds} seeds"
    return told if seeds == len(records) else f"{len(records)} runs of {told}"


def claims_as_markdown(records: Sequence[RunRecord]) -> str:
    """The table of claims, ready for a page or a terminal."""
    return markdown_table(claim_rows(records))


def _repeats(record: RunRecord, config: Any, free: set[str]) -> bool:
    """Whether a record was made with these settings; one it does not know had its default."""
    defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    # Tuples become lists, as in the ledger.
    wanted, defaults = json.loads(json.dumps([asdict(config), defaults]))
    return all(
        record.settings.get(name, defaults.get(name, value)) == value
        for name, value in wanted.items()
        if name not in free
    )


def compare_with_claim(share: float, n_images: int, claimed: float, n_claimed: int) -> str:
    """What an accuracy of ours says about a claimed one, at 95 %; both in [0, 1].

    Returns:
        ``repeated`` where the two may well be the same, else ``surpassed`` or ``not reached``.

    Raises:
        ValueError: A share lies outside [0, 1], or a number of images is none of at least 1.
    """
    claimed = number("claimed", claimed, least=0, most=1)
    n_claimed = whole_number("n_claimed", n_claimed, least=1)
    low, high = difference_interval(share, n_images, claimed, n_claimed)
    if low <= 0 <= high:
        return "repeated"
    return "surpassed" if low > 0 else "not reached"
