"""An image of 5,000 droplets in a server's data, and what a browser does with it to be timed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sam_droplet.imaging.images import encode_png, load_image
from sam_droplet.imaging.masks import Mask
from sam_droplet.measurement.droplets import measure
from sam_droplet.service.store import Store

COLUMNS, ROWS, PITCH = 100, 50, 26
# Runs in the page: drags the picture about for n frames; returns the ms between them.
PAN = """async (n) => {
  const root = document.querySelector("#stage");
  const { left, top, width, height } = root.getBoundingClientRect();
  const send = (type, x, y) => root.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, button: 1, buttons: 4, clientX: left + x, clientY: top + y, bubbles: true }));
  root.setPointerCapture = () => {};
  const frame = () => new Promise(requestAnimationFrame);
  send("pointerdown", width / 2, height / 2);
  const times = [await frame()];
  for (let i = 1; i <= n; i++) {
    send("pointermove", width / 2 + 150 * Math.sin(i / 9), height / 2 + 60 * Math.sin(i / 5));
    times.push(await frame());
  }
  send("pointerup", width / 2, height / 2);
  return times.slice(1).map((time, i) => time - times[i]);
}"""
# Runs in the page: moves a slider n times, each time until the frame after it is drawn; gives the ms of each.
SLIDE = """async (n) => {
  const slider = document.querySelector("#filters input[type=range]");
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  for (let i = 0; i < n; i++) {
    const from = performance.now();
    slider.value = 20 + (i % 2) * 150;
    slider.dispatchEvent(new Event("input"));
    await frame();
    await frame();
    times.push(performance.now() - from);
  }
  return times;
}"""


def add_crowd(data_dir: Path) -> str:
    """Add an image of 5,000 discs of many sizes, measured, and return its id."""
    y, x = np.mgrid[:PITCH, :PITCH] + 0.5
    sizes = np.random.default_rng(0).uniform(6, 12, (ROWS, COLUMNS))
    bits = [[np.hypot(x - PITCH / 2, y - PITCH / 2) <= r for r in row] for row in sizes]
    pixels = np.block([[np.where(cell, 180, 40).astype(np.uint8) for cell in row] for row in bits])
    image = load_image(encode_png(pixels), "crowded.png")
    masks = []
    for row, column in np.ndindex(ROWS, COLUMNS):
        (contour,), _ = cv2.findContours(
            bits[row][column].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        left, top = column * PITCH, row * PITCH
        outline = np.add(contour[:, 0], (left + 0.5, top + 0.5), dtype=np.float32)
        masks.append(Mask((left, top, left + PITCH, top + PITCH), bits[row][column], 0.9, outline))
    store = Store(data_dir)
    record, _ = store.add_image("local", image, encode_png(pixels))
    with store.editing("local", record.id) as edit:
        edit.add(measure(image, masks, model="threshold"))
        edit.save()
    store.close()
    return record.id
