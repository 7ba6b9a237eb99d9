"""What the speed benchmark measures beside the stock MobileSAM, on the same picture and weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_droplet.imaging.images import load_image
from sam_droplet.imaging.masks import Mask, iou, mask_from_bits
from sam_droplet.segmentation.engines import choose_engines
from sam_droplet.segmentation.everything import find_everything
from sam_droplet.segmentation.mobile_sam import MobileSam, load_mobile_sam, prompt_points
from sam_droplet.segmentation.sam_masks import Arrays, MobileSamPredictor
from sam_droplet.training.process_meter import Pair, Times, in_turns, peak_mib, reset_peak_mib, use_cores
from sam_droplet.training.speed_tasks import Task, changed, configuration, find, segmenter_in
from sam_droplet.training.stand_in_sam import draw_discs, random_sam
from sam_droplet.training.stock_sam import load_stock

# Logits so steep that nearly all stand-in masks pass the stability filter, as most of real weights do.
_STEEPNESS = 20.0
_BOX_HALF_PX = 40


def compare_prompts(task: Task) -> dict[str, Any]:
    """Time stock and ours in turns: encoding a picture, answering a click and a box on it."""
    use_cores(task.threads)
    view = load_image(task.png, "picture.png").view()
    model = mobile_sam(task, view)
    package, network = load_stock(model)
    stock = package.SamPredictor(network)
    x, y = view.shape[1] / 2, view.shape[0] / 2
    point, label = np.array([[x, y]]), np.array([1])
    box = np.array([x - _BOX_HALF_PX, y - _BOX_HALF_PX, x + _BOX_HALF_PX, y + _BOX_HALF_PX])
    with tempfile.TemporaryDirectory() as folder:
        ours = _predictor(model, task, Path(folder))
        arrays = ours.encode(view)
        pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "embedding": (lambda: stock.set_image(view), lambda: ours.encode(view)),
            "decode": (
                lambda: _decode_stock(stock, point, label),
                lambda: _decode_ours(ours, arrays, point, label),
            ),
            "click": (
                lambda: stock.predict(point, label, multimask_output=True),
                lambda: ours.predict(arrays, point, label, multimask=True),
            ),
            "box": (
                lambda: stock.predict(box=box, multimask_output=False),
                lambda: ours.predict(arrays, [], [], box),
            ),
        }
        return {"place": ours.place, **{name: in_turns(*pair, task.repeats) for name, pair in pairs.items()}}


def compare_everything(task: Task) -> dict[str, Any]:
    """Time the stock automatic generator with its defaults once, ours with the same, and *Find droplets*.

    Decoding the upload counts in all; the masks of both generators are compared. Ours run before and
    after the stock generator, so that what else the machine does meets both.
    """
    use_cores(task.threads)
    model = mobile_sam(task, load_image(task.png, "picture.png").view())
    package, network = load_stock(model)
    generator = package.SamAutomaticMaskGenerator(network)
    stock, everything, finds = Times(), Times(), Times()
    with tempfile.TemporaryDirectory() as folder:
        predictor = _predictor(model, task, Path(folder))
        segmenter = segmenter_in(Path(folder), task)
        find(segmenter, changed(task.png, 0))

        def find_often(first: int) -> None:
            for number in range(first, first + task.repeats):
                finds.time(partial(find, segmenter, changed(task.png, number)))

        def run_ours() -> list[Mask]:
            return everything.time(lambda: find_everything(predictor, load_image(task.png, "p.png").view()))

        find_often(1)
        before_mib = reset_peak_mib()
        masks = run_ours()
        ours_mib = peak_mib() - before_mib
        before_mib = reset_peak_mib()
        theirs = stock.time(lambda: generator.generate(load_image(task.png, "p.png").view()))
        stock_mib = peak_mib() - before_mib
        run_ours()
        find_often(1 + task.repeats)
    return {
        "find": Pair(stock, finds),
        "everything": Pair(stock, everything),
        "ours_peak_growth_mib": ours_mib,
        "stock_peak_growth_mib": stock_mib,
        "n_masks": len(masks),
        "n_stock_masks": len(theirs),
        "mean_iou": mean_iou(masks, [record["segmentation"] for record in theirs]),
    }


def mobile_sam(task: Task, view: NDArray[np.uint8]) -> MobileSam:
    """Load the weights of the task, or make stand-ins that draw a disc about each point."""
    torch.set_num_threads(task.threads)
    if task.sam_path is not None:
        return load_mobile_sam(task.sam_path)
    model = random_sam()
    return draw_discs(model, model.encode(view), steepness=_STEEPNESS)


def mean_iou(masks: list[Mask], theirs: list[NDArray[np.bool_]]) -> float | None:
    """Return the mean over stock masks (H, W) of the best IoU that ours reach; None without masks."""
    stock = [mask for mask in (mask_from_bits(bits, 1.0) for bits in theirs) if mask is not None]
    if not stock:
        return None
    return float(np.mean([max((iou(ours, mask) for ours in masks), default=0.0) for mask in stock]))


def _predictor(model: MobileSam, task: Task, folder: Path) -> MobileSamPredictor:
    runtime = configuration(folder, task).runtime
    return MobileSamPredictor(model, engines=choose_engines(runtime, "cpu", task.threads, folder))


def _decode_stock(stock: Any, point: NDArray[Any], label: NDArray[Any]) -> Any:
    """Answer one point with the stock prompt encoder and mask decoder, without enlarging the masks."""
    model = stock.model
    with torch.inference_mode():
        points = torch.as_tensor(point, dtype=torch.float32)[None], torch.as_tensor(label)[None]
        sparse, dense = model.prompt_encoder(points=points, boxes=None, masks=None)
        return model.mask_decoder(
            image_embeddings=stock.features,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )


def _decode_ours(ours: MobileSamPredictor, arrays: Arrays, point: NDArray[Any], label: NDArray[Any]) -> Any:
    """Answer one point with ours and draw the same three masks at 256 × 256."""
    opened = ours.open(arrays)
    points, labels = prompt_points(point, label, None)
    answer = ours.answer(opened, torch.from_numpy(points)[None], torch.from_numpy(labels)[None])
    return ours.decoder.draw(opened.shared, answer, 0, torch.arange(1, 4))
