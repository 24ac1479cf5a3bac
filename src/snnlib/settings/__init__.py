"""What a run can be told: tables of settings, presets and claims. Needs no torch."""
