"""The 70,000 images of MNIST, xz-compressed (licence: ``LICENSE``), beside their reader.

In the order of reading:

    originals  the four files: unpacked, checked, never downloaded
    pictures   your own digit, made like those of MNIST
"""
