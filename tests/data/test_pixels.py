from __future__ import annotations

import numpy as np
import torch

from sharpscope.data.pixels import pixel_scale


def _images(n, channels):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (n, channels, 5, 4), dtype=np.uint8)
    images[:, 0] //= 3  # channels differ in mean and spread
    return images


def test_each_channel_is_standardised_by_itself_over_more_than_one_chunk():
    images = _images(5001, 2)
    inputs = pixel_scale(images, 255, "standardised").apply(images)
    assert inputs.dtype == torch.float32
    expected = images / 255
    expected = (expected - expected.mean(axis=(0, 2, 3), keepdims=True)) / expected.std(
        axis=(0, 2, 3), keepdims=True
    )
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-6)


def test_the_scale_is_that_of_the_images_it_came_from():
    train, other = _images(10, 1), 255 - _images(10, 1)
    scale = pixel_scale(train, 255, "standardised")
    assert abs(float(scale.apply(train).mean())) < 1e-6
    assert float(scale.apply(other).mean()) > 1
    assert "10 training images" in scale.sentence


def test_unit_pixels_stay_in_the_unit_interval():
    images = np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1)
    assert pixel_scale(images, 255, "unit").apply(images).flatten().tolist() == [0.0, np.float32(0.2), 1.0]


def test_a_constant_image_becomes_zero_and_not_nan():
    images = np.full((3, 1, 2, 2), 7, dtype=np.uint8)
    assert torch.count_nonzero(pixel_scale(images, 255, "standardised").apply(images)) == 0
