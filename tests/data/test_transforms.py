import numpy as np
import pytest
import torch

from i2idist.data.transforms import random_crop, random_flip, resize, to_pixels, to_unit
from i2idist.randomness import key_of, sample_keys
from tests.data.samples import picture


def keys(n, purpose="x"):
    return sample_keys(key_of(purpose), torch.arange(n))


def test_stored_pixels_span_minus_one_to_one():
    assert to_unit(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]
    assert to_unit(np.array([0, 65535], np.uint16)).tolist() == [-1.0, 1.0]
    assert to_unit(np.array([51], np.uint8)).item() == pytest.approx(-0.6)


def test_pixels_round_to_the_nearest_level():
    assert to_pixels(torch.tensor([[[-1.0, 0.0, 1.0]]])).tolist() == [[0, 128, 255]]
    assert to_pixels(torch.zeros(3, 2, 5)).shape == (2, 5, 3)


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (4, 8), (5, 8), (1, 16), (3, 16)])
def test_resizing_keeps_kind_and_mean(channels, bits):
    smooth = (picture(0, channels, bits, size=(16, 24)) // 4 + 2 ** (bits - 2)).transpose(2, 0, 1)
    resized = resize(smooth, (8, 12))
    assert (resized.shape, resized.dtype) == ((channels, 8, 12), smooth.dtype)
    assert np.allclose(resized.mean((1, 2)), smooth.mean((1, 2)), rtol=0.03)
    assert resize(smooth, (16, 24)) is smooth


def test_resizing_treats_8_bit_channels_alike():
    """Three channels through Pillow's interleaved path equal five through the planar one, to rounding."""
    pixels = picture(1, 5, size=(16, 16)).transpose(2, 0, 1)
    apart = resize(pixels, (7, 9))[:3].astype(int)
    assert np.abs(apart - resize(pixels[:3], (7, 9))).max() <= 1


def test_crops_are_windows_of_their_image_all_over_it():
    images = np.stack([np.arange(80).reshape(1, 8, 10)] * 500).astype(np.uint8)
    cropped = random_crop(images, (5, 6), keys(500))
    corners = cropped[:, 0, 0, 0]
    assert {(int(c) // 10, int(c) % 10) for c in corners} == {(y, x) for y in range(4) for x in range(5)}
    for image, corner in zip(cropped, corners, strict=True):
        y, x = divmod(int(corner), 10)
        assert np.array_equal(image, images[0, :, y : y + 5, x : x + 6])


def test_flips_mirror_half_of_the_images():
    images = np.stack([picture(0, 2).transpose(2, 0, 1)] * 400)
    flipped = random_flip(images, keys(400))
    mirrored = (flipped == images[..., ::-1]).all((1, 2, 3))
    kept = (flipped == images).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250
