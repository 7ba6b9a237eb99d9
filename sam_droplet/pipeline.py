"""The façade that every door calls: image in, measured droplets out.

The one place that sees segmentation and measurement together. torch is imported on first use.
"""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam_droplet.config import Config
from sam_droplet.errors import InputError, ModelUnavailable
from sam_droplet.imaging.images import Calibration, Image
from sam_droplet.imaging.masks import is_centred_in, rle_encode
from sam_droplet.imaging.rim_offset import offset_mask
from sam_droplet.measurement.droplets import (
    Droplet,
    SearchProgress,
    droplet_record,
    measure,
    measuring,
    summarize,
)
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.closeup import close_up, masks_of_image, options_within
from sam_droplet.segmentation.prompts import (
    MODES,
    MOST_MAGNIFICATION,
    FindOptions,
    ModelInfo,
    Progress,
    Prompt,
    Segmentation,
)

if TYPE_CHECKING:
    from sam_droplet.segmentation.embedding_cache import EmbeddingCache
    from sam_droplet.segmentation.loading import Models

__all__ = ["MODES", "MOST_MAGNIFICATION", "FindOptions", "Prompt", "Result", "Segmenter", "result_as_dict"]

PROMPT_MODELS = ("auto", "droplet-net", "mobile-sam")
# Outlines below this are background to a click, too.
PROPOSAL_SCORE = 0.1


@dataclass(frozen=True, eq=False)
class Result:
    """Hold measured droplets, and how they came about: model, parameters, timings in seconds."""

    droplets: list[Droplet]
    model: ModelInfo
    parameters: dict[str, Any]
    timings_s: dict[str, float]
    message: str | None = None


class Segmenter:
    """Answer for one process: networks are loaded on first use, once, and kept."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._models: Models | None = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the networks are in memory."""
        return self._models is not None

    def warm_up(self) -> None:
        """Load the networks now; ModelUnavailable where weights are missing or damaged."""
        self._loaded().load_all()

    def find(
        self, image: Image, options: FindOptions | None = None, on_progress: SearchProgress | None = None
    ) -> Result:
        """Find and measure every droplet of an image.

        on_progress: called with the parts that are done (tiles and outlines looked at, prompts answered)
        and those known so far, then with the droplets measured, those there are, and "measuring"; what it
        raises ends the search.
        Raises ModelUnavailable where the mode needs weights that are not here.
        """
        options = options or FindOptions()
        if options.magnification > 1 and options.roi_xyxy is not None:
            return self._find_closer(image, options, options.roi_xyxy, on_progress)
        answer = self._segmented(image, _of_the_rim(options), on_progress)
        answer = _in_region(answer, options)
        answer = replace(answer, parameters=answer.parameters | _sizes(options))
        return _measured(image, answer, "auto", options.rim_offset_px, on_progress)

    def _find_closer(
        self,
        image: Image,
        options: FindOptions,
        region_xyxy: tuple[float, float, float, float],
        on_progress: SearchProgress | None,
    ) -> Result:
        closer = close_up(image, region_xyxy, options.magnification)
        answer = self._segmented(closer.image, options_within(closer, _of_the_rim(options)), on_progress)
        masks = masks_of_image(closer, answer.masks, image)
        answer = _in_region(replace(answer, masks=masks), options)
        answer = replace(answer, parameters=answer.parameters | asdict(options))
        return _measured(image, answer, "auto", options.rim_offset_px, on_progress)

    def _segmented(
        self, image: Image, options: FindOptions, on_progress: Progress | None = None
    ) -> Segmentation:
        models = self._loaded()
        if options.mode == "droplets":
            return models.droplet_net.find(image, options, on_progress)
        mobile_sam = models.mobile_sam
        if mobile_sam is None:
            raise ModelUnavailable(
                f"The mode {options.mode} needs the MobileSAM weights, which are not on this machine. "
                "Run `sam-droplet model fetch`, or choose the mode droplets."
            )
        from sam_droplet.segmentation.modes import find_all, find_refined

        if options.mode == "refined":
            return find_refined(models.droplet_net, mobile_sam, image, options, on_progress)
        return find_all(mobile_sam, image, options, on_progress)

    def predict(self, image: Image, prompt: Prompt, model: str = "auto") -> Result:
        """Outline and measure what a prompt points at: best first, nothing with a message that says why."""
        models = self._loaded()
        if model not in PROMPT_MODELS:
            raise InputError(f"model must be one of {', '.join(PROMPT_MODELS)}, but it is {model!r}.")
        mobile_sam = None if model == "droplet-net" else models.mobile_sam
        if model == "mobile-sam" and mobile_sam is None:
            raise ModelUnavailable(
                "The MobileSAM weights are not on this machine. "
                "Run `sam-droplet model fetch`, or choose the model droplet-net."
            )
        predictor = mobile_sam or models.droplet_net
        answer = predictor.predict(image, prompt)
        return _measured(image, answer, "box" if prompt.box_xyxy else "point", prompt.rim_offset_px)

    def proposals(self, image: Image) -> NDArray[np.float32]:
        """Return the outlines that DropletNet answers clicks from; they are computed once per image.

        (N, 35) float32: centre x and y and 32 radii from there at equal angles from +x towards +y, in
        image-corner px; score.
        """
        stars = self._loaded().droplet_net.proposals(image)
        table = np.column_stack([stars.centre_xy, stars.radii, stars.score])
        return np.asarray(table[stars.score >= PROPOSAL_SCORE], np.float32)

    def models(self) -> list[dict[str, Any]]:
        """List the weights that may answer, and which of them are here."""
        return [dict(row) for row in checkpoints.list_rows(self._config)]

    def runs_on(self) -> dict[str, str]:
        """Name what runs each network that is in memory, such as "cpu (openvino)"."""
        return self._models.runs_on() if self._models is not None else {}

    def gpu_memory_bytes(self) -> dict[str, int] | None:
        """Return used and total bytes of the GPU that the networks are on; None without one."""
        return self._models.gpu_memory_bytes() if self._models is not None else None

    @property
    def cache(self) -> EmbeddingCache | None:
        """What keeps the networks' work on images; None until they are in memory."""
        return self._models.cache if self._models is not None else None

    def _loaded(self) -> Models:
        with self._lock:
            if self._models is None:
                from sam_droplet.segmentation.loading import load_models

                self._models = load_models(self._config, _threads(self._config))
            return self._models


def _threads(config: Config) -> int:
    """Return the processor threads of this process: the setting, else every core that it may use."""
    if config.omp_num_threads:
        return config.omp_num_threads
    if hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _of_the_rim(options: FindOptions) -> FindOptions:
    """Return the options as they apply to the rims that a network sees, before these are moved."""
    low, high = (
        None if v is None else max(v - 2 * options.rim_offset_px, 0.0)
        for v in (options.diameter_min_px, options.diameter_max_px)
    )
    return replace(options, diameter_min_px=low, diameter_max_px=high)


def _in_region(answer: Segmentation, options: FindOptions) -> Segmentation:
    """Keep what counts to the region, by the rule by which a search there replaces what was found before."""
    if options.roi_xyxy is None:
        return answer
    masks = [mask for mask in answer.masks if is_centred_in(mask, options.roi_xyxy)]
    if answer.masks and not masks:
        return replace(
            answer, masks=[], message="0 droplets: none that reaches into the region is centred in it."
        )
    return replace(answer, masks=masks)


def _sizes(options: FindOptions) -> dict[str, float | None]:
    """Return the sizes that were asked for."""
    return {"diameter_min_px": options.diameter_min_px, "diameter_max_px": options.diameter_max_px}


def _measured(
    image: Image,
    answer: Segmentation,
    source: str,
    rim_offset_px: float,
    on_progress: SearchProgress | None = None,
) -> Result:
    """Measure what was found, its outlines moved by the rim offset: the one place where they are."""
    hw = (image.height, image.width)
    moved = [offset_mask(mask, rim_offset_px, hw) for mask in answer.masks]
    masks = [mask for mask in moved if mask is not None]
    droplets = measure(
        image, masks, source=source, model=answer.model.name, on_progress=measuring(on_progress)
    )
    message = " ".join(filter(None, [_vanished(len(moved) - len(masks), rim_offset_px), answer.message]))
    return Result(droplets, answer.model, answer.parameters, answer.timings_s, message or None)


def _vanished(n: int, rim_offset_px: float) -> str | None:
    if n == 0:
        return None
    outlines = "1 outline vanishes" if n == 1 else f"{n} outlines vanish"
    return f"{outlines}: too small for a rim that is moved inwards by {-rim_offset_px:g} px."


def result_as_dict(image: Image, result: Result, calibration: Calibration | None) -> dict[str, Any]:
    """Return a result as the command line and the HTTP API print it, masks as COCO run lengths."""
    size = (image.height, image.width)
    droplets = [
        {**droplet_record(droplet, calibration), "segmentation": rle_encode(droplet.mask, size)}
        for droplet in result.droplets
    ]
    return {
        "image": image.name,
        "width": image.width,
        "height": image.height,
        "model": result.model.as_dict(),
        "um_per_px": calibration.um_per_px if calibration else None,
        "calibration_source": calibration.source if calibration else None,
        "chamber_height_um": calibration.chamber_height_um if calibration else None,
        "droplets": droplets,
        "summary": summarize(result.droplets, calibration),
        "parameters": result.parameters,
        "timings_s": result.timings_s,
        "message": result.message,
    }
