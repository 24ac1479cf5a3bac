"""Loops for the machine: read them last, and only to see where the speed comes from."""
