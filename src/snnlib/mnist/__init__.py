"""The 70,000 images of MNIST, xz-compressed (licence: ``LICENSE``), beside their reader."""
