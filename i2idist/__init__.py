"""i2idist: train, tune, compare and serve image-to-image translation and GAN-transfer methods."""

__version__ = "0.1.0"
