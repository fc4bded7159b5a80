"""The surface of an examination turns in a real browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sharpscope as ss
from sharpscope.examination import PARTS

CHROMIUM = os.environ.get("SHARPSCOPE_CHROMIUM") or shutil.which("chromium")

ON_THE_BORDER = """() => {
  const canvas = document.getElementById("surface-3d"), view = canvas.getContext("2d");
  const [w, h] = [canvas.width, canvas.height];
  const sides = [[0, 0, w, 1], [0, h - 1, w, 1], [0, 0, 1, h], [w - 1, 0, 1, h]];
  return sides.reduce((n, side) => n + view.getImageData(...side).data.filter((v) => v).length, 0);
}"""
"""Counts what is drawn on the border of the canvas, where a surface that is cut off leaves its marks."""

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    obj = ss.Objective(model, F.cross_entropy, (torch.randn(20, 4), torch.arange(20) % 2))
    file = tmp_path_factory.mktemp("page") / "page.html"
    keep = ("surface", "by_layer")
    without = [name for name in PARTS if name not in keep]
    ss.examine(obj, without=without, surface_points=7).to_html(file)
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_surface_turns_by_mouse_and_by_keyboard(page_file: Path, width: int, scheme: str):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.goto(page_file.as_uri())
        canvas = page.locator("#surface-3d")
        canvas.scroll_into_view_if_needed()
        drawn = [canvas.screenshot()]
        turned = [canvas.get_attribute("data-turn")]
        box = canvas.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 60, y + 20, steps=4)
        page.mouse.up()
        page.wait_for_timeout(100)
        drawn.append(canvas.screenshot())
        turned.append(canvas.get_attribute("data-turn"))
        canvas.press("ArrowRight")
        page.wait_for_timeout(100)
        drawn.append(canvas.screenshot())
        turned.append(canvas.get_attribute("data-turn"))
        for key in ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowDown"):
            for _ in range(5):
                canvas.press(key)
            page.wait_for_timeout(100)
            assert page.evaluate(ON_THE_BORDER) == 0
        assert len(set(turned)) == 3
        assert len(set(drawn)) == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert problems == []
        browser.close()
