"""The tables of settings that go together, and ideas that were given up."""

from dataclasses import fields
from types import SimpleNamespace

import pytest

from snnlib.cli.main import main
from snnlib.records.ledger import read_ledger
from snnlib.records.reproduction import find_claims, planned_runs, records_of
from snnlib.settings import experiment, ff_experiment
from snnlib.settings.ff_presets import FF_PRESETS, RETIRED
from snnlib.settings.presets import PRESETS
from snnlib.settings.setting import check_needs

TABLES = [(experiment.NEEDS, PRESETS), (ff_experiment.NEEDS, FF_PRESETS)]
ROWS = [(need, known) for needs, known in TABLES for need in needs]


def test_a_need_is_told_with_both_settings_the_value_and_what_is_allowed():
    needs = [("engine", "events", "amp", ("off", "on"))]
    check_needs(SimpleNamespace(engine="scan", amp="half"), needs)
    check_needs(SimpleNamespace(engine="events", amp="on"), needs)
    with pytest.raises(
        ValueError, match=r"^amp must be 'off' or 'on' with engine='events', got 'half'$"
    ):
        check_needs(SimpleNamespace(engine="events", amp="half"), needs)


@pytest.mark.parametrize(("need", "known"), ROWS, ids=lambda x: str(x)[:60])
def test_a_row_names_settings_that_exist_and_values_that_they_may_have(need, known):
    name, value, other, allowed = need
    some = next(config for config in known.values() if hasattr(config, name))
    assert hasattr(some, other)
    choices = {field.name: field.metadata.get("choices") for field in fields(some)}
    assert value in (choices[name] or (True, False))
    assert set(allowed) <= set(choices[other] or allowed)


def test_what_was_given_up_keeps_its_record_and_names_the_commit_of_its_code(capsys):
    records = read_ledger()
    for preset, commit in RETIRED.items():
        (claim,) = find_claims(preset)
        (record,) = records_of(claim, records, "honest", preset)
        assert record.commit.startswith(commit)
        assert main(["train", preset]) == 1
        assert f"its code is in commit {commit}" in capsys.readouterr().err
        assert main(["reproduce", preset]) == 1
        assert f"its code is in commit {commit}" in capsys.readouterr().err
    assert not {run.name for run in planned_runs(find_claims("ff-tried"), 1)} & set(RETIRED)
    assert main(["ledger"]) == 0
    assert f"ff-try-peer was given up; its code is in commit {RETIRED['ff-try-peer']}." in (
        capsys.readouterr().out
    )
