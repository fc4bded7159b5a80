"""Crops and mirror images: which pixels land where, for every channel, and from which draws."""

from __future__ import annotations

import pytest
import torch

from sharpscope.data import Dataset, Split
from sharpscope.errors import InputError
from sharpscope.seeding import generator
from sharpscope.training import train
from sharpscope.training.augmentation import Augmentation, AugmentationConfig
from training.small_runs import bits, classification, config, perceptron


def images(n: int = 64, channels: int = 3, side: int = 5, width: int = 7) -> Dataset:
    inputs = torch.randn(n, channels, side, width, generator=generator("augmented", n, channels))
    split = Split(inputs, (inputs.mean((1, 2, 3)) > 0).long())
    return Dataset("digits", "classification", 2, (channels, side, width), split, None, split, "none")


def augmented(
    data: Dataset, epoch: int = 1, step: int = 0, run_id: str = "run", **options: object
) -> torch.Tensor:
    chosen = AugmentationConfig.model_validate(options)
    return Augmentation(chosen, data, run_id)(data.train.inputs, epoch, step)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_a_window_of_the_padded_image(channels: int) -> None:
    data = images(channels=channels)
    found = augmented(data, names=["crop"], padding=2)
    black = data.train.inputs.amin((0, 2, 3))
    places = set()
    for before, after in zip(data.train.inputs, found, strict=True):
        padded = black[:, None, None].repeat(1, 9, 11)
        padded[:, 2:7, 2:9] = before
        fits = [
            (i, j) for i in range(5) for j in range(5) if torch.equal(padded[:, i : i + 5, j : j + 7], after)
        ]
        assert len(fits) == 1
        places.add(fits[0])
    assert len(places) > 15  # of 25: 64 uniform draws hit about 23


@pytest.mark.parametrize("channels", [1, 3])
def test_a_flip_mirrors_about_half_of_the_images(channels: int) -> None:
    data = images(channels=channels)
    found = augmented(data, names=["flip"])
    mirrored = 0
    for before, after in zip(data.train.inputs, found, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))
        mirrored += not torch.equal(after, before)
    assert 20 < mirrored < 44


def test_what_is_given_is_left_alone_and_draws_follow_run_epoch_and_step() -> None:
    data, names = images(), ["crop", "flip"]
    before = data.train.inputs.clone()
    first = augmented(data, names=names)
    assert torch.equal(data.train.inputs, before)
    assert torch.equal(first, augmented(data, names=names))
    assert not torch.equal(first, augmented(data, names=names, step=1))
    assert not torch.equal(first, augmented(data, names=names, epoch=2))
    assert not torch.equal(first, augmented(data, names=names, run_id="another"))
    seeded = augmented(data, names=names, seed=4)
    assert torch.equal(seeded, augmented(data, names=names, seed=4, run_id="another"))
    assert not torch.equal(seeded, augmented(data, names=names, seed=5))


def convolutional() -> torch.nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(60, 2))


def test_every_step_trains_on_images_of_its_own_and_evaluations_do_not() -> None:
    data = images()
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}

    class Watched(torch.nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen[self.training].append(x.detach().clone())
            return x

    model = torch.nn.Sequential(Watched(), *convolutional())
    run = config(augmentation={"names": ["flip"]}, batch_size="full", stop={"epochs": 3})
    train(run, data, model)
    steps, evaluations = seen[True], seen[False]
    assert len(steps) == 3
    ours = Augmentation(AugmentationConfig(names=("flip",)), data, run.run_id())
    for epoch, batch in enumerate(steps, start=1):
        assert torch.equal(batch, ours(data.train.inputs, epoch, 0))
    assert all(torch.equal(batch[:2], data.train.inputs[:2]) for batch in evaluations)


def test_sam_sees_the_same_images_twice() -> None:
    batches: list[bytes] = []

    class Watched(torch.nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                batches.append(x.detach().numpy().tobytes())
            return x

    model = torch.nn.Sequential(Watched(), *convolutional())
    optimizer = {"name": "sam", "lr": 0.1}
    train(config(augmentation={"names": ["crop"]}, optimizer=optimizer, stop={"epochs": 1}), images(), model)
    assert batches[::2] == batches[1::2]
    assert len(set(batches)) == 8


def test_only_images_are_augmented() -> None:
    model, before = perceptron(), bits(perceptron())
    with pytest.raises(InputError, match=r"augmentation is for images .* the shape \(53, 6\)"):
        train(config(augmentation={"names": ["flip"]}), classification(), model)
    assert bits(model) == before
