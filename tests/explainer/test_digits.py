"""Vision transformers that were really trained: they are what their authors had, and explained."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from support import mnist

from attnflow import Explainer

COUNT = 2000


@pytest.fixture(scope="module")
def folder():
    name = os.environ.get("ATTNFLOW_DIGITS")
    if name is None:
        pytest.skip("ATTNFLOW_DIGITS names no folder with vision transformers of MNIST")
    return Path(name)


@pytest.fixture(scope="module")
def shown(folder):
    return mnist.images(folder, COUNT)


@pytest.mark.parametrize(("build", "wanted"), [("cls_prenorm", 0.972), ("mean_prenorm", 0.983)])
def test_as_accurate_as_when_it_was_trained(folder, shown, build, wanted):
    model = getattr(mnist, build)(folder)
    images, labels = shown
    values = (torch.tensor(images)[:, None] / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=part).logits for part in values.split(500)])
    accuracy = (logits.argmax(1).numpy() == labels).mean()
    assert accuracy == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize(("build", "tensor"), [("cls_prenorm", "bcf"), ("mean_prenorm", "cf")])
def test_the_prediction_falls_with_the_patches_of_highest_score(folder, shown, build, tensor):
    """The better third of the patches, greyed out, costs more than the worse third."""
    model = getattr(mnist, build)(folder)
    images = shown[0][:12]
    found = Explainer(model, mnist.processor())(images=list(images), tensor=tensor)
    values = (torch.tensor(images)[:, None] / 255 - 0.1307) / 0.3081
    left = {}
    for kind, sign in (("best", -1), ("worst", 1)):
        rest = values.clone()
        for a, image in zip(found, rest, strict=True):
            image[:, _cells(a, np.argsort(sign * a.heatmap().ravel())[: len(a) // 3])] = 0
        with torch.no_grad():
            probabilities = model(pixel_values=rest).logits.softmax(1)
        targets = torch.tensor([a.target for a in found])
        left[kind] = float(probabilities.gather(1, targets[:, None]).mean())
    assert left["worst"] - left["best"] > 0.4, left


def _cells(a, patches):
    """`(28, 28)` bool, the pixels under some cells of the grid."""
    left, top, right, bottom = map(int, a.box)
    rows, columns = a.grid
    chosen = np.zeros(rows * columns, bool)
    chosen[patches] = True
    side = np.ones(((bottom - top) // rows, (right - left) // columns), bool)
    whole = np.zeros((28, 28), bool)
    whole[top:bottom, left:right] = np.kron(chosen.reshape(rows, columns), side)
    return torch.tensor(whole)
