"""What is kept of a run: its record, the ledger, checkpoints, and the machine it ran on."""
