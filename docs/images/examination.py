"""Draw docs/images/examination.svg, the picture of the README: a small network's minimum, as ss.examine sees it.

python docs/images/examination.py
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch
import vl_convert
from torch import nn

import sharpscope as ss
from sharpscope.data import load
from sharpscope.examination.figures import density_figure, layers_figure
from sharpscope.examination.surface_figure import surface_figure
from sharpscope.report.theme import config

EPOCHS = 12


def trained() -> ss.Objective:
    """Return the loss of a small convolutional network on the digits that it was trained on."""
    data = load("digits").train
    torch.manual_seed(0)
    layers = {
        "conv1": nn.Conv2d(1, 8, 3), "relu1": nn.ReLU(), "conv2": nn.Conv2d(8, 16, 3), "relu2": nn.ReLU(),
        "pool": nn.MaxPool2d(2), "flatten": nn.Flatten(), "hidden": nn.Linear(64, 32), "relu3": nn.ReLU(),
        "output": nn.Linear(32, 10),
    }  # fmt: skip
    model = nn.Sequential(OrderedDict(layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(data.targets)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.inputs[chosen]), data.targets[chosen]).backward()
            optimizer.step()
        schedule.step()
    return ss.Objective(model, nn.functional.cross_entropy, (data.inputs, data.targets))


def main() -> None:
    """Examine the network and draw surface, density and curvature by layer side by side."""
    found = ss.examine(
        trained(), without=["audit", "worst_case", "average_direction", "trace"], surface_points=31
    )
    print(found)
    assert found.surface is not None
    assert found.density is not None
    assert found.eigenvalues is not None
    assert found.by_layer is not None
    right = [
        {**density_figure(found.density, found.eigenvalues.values), "height": 170, "title": "Eigenvalues"},
        {**layers_figure(found.by_layer, found.eigenvector_shares), "title": "Curvature by layer"},
    ]
    picture = {
        "hconcat": [{**surface_figure(found.surface), "title": "The loss around it"}, {"vconcat": right}],
        "spacing": 40,
        "padding": 14,
        "resolve": {"scale": {"color": "independent"}},
    }
    drawn = vl_convert.vegalite_to_svg(json.dumps(picture), config={**config("light"), "background": "white"})
    Path(__file__).with_suffix(".svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
