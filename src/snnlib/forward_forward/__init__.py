"""Learning without a backward pass: every layer tells positive from negative images by itself."""
