"""The command line: flags become settings; the work is done elsewhere."""
