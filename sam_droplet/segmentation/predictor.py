"""DropletNet behind the predictor seam: every droplet, the one under a click, the one in a box."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from sam_droplet.imaging.images import Image
from sam_droplet.imaging.masks import Mask, mask_from_polygon
from sam_droplet.segmentation.automatic import propose, pyramid, select, trusted
from sam_droplet.segmentation.corrections import corrected
from sam_droplet.segmentation.droplet_net import grey_range
from sam_droplet.segmentation.embedding_cache import Arrays, EmbeddingCache
from sam_droplet.segmentation.much_smaller import much_smaller
from sam_droplet.segmentation.prompts import FindOptions, ModelInfo, Progress, Prompt, Segmentation
from sam_droplet.segmentation.runtime import DropletRuntime
from sam_droplet.segmentation.stars import Stars, unit_rays

# A proposal at least this sure answers a click at once; below it the place is looked at again, closer.
_SURE = 0.35
# Below this even the closer look sees background.
_BACKGROUND = 0.1
_CLOSER_THRESHOLD = 0.03
# Sides in image px of the windows of the closer look: droplets from about 8 to 400 px.
_CLOSER_SIDES_PX = (40, 90, 200, 450, 1000)
_CLOSER_NETWORK_PX = 192
_MOST_CANDIDATES = 3
# A whole look at more takes longer than two or three seconds on a laptop.
_AT_ONCE_PX = 8_000_000
# Changes whenever proposals for the same pixels and weights would differ.
_PROPOSALS_VERSION = "9"


@dataclass
class Stopwatch:
    """Note how long each named stage took, in seconds."""

    timings_s: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under ``stage``."""
        now = time.perf_counter()
        self.timings_s[stage] = round(now - self._since, 5)
        self._since = now


class DropletPredictor:
    """DropletNet behind the seam; also finds every droplet."""

    def __init__(self, runtime: DropletRuntime, cache: EmbeddingCache, info: ModelInfo) -> None:
        self.info = info
        self._runtime, self._cache = runtime, cache

    def find(self, image: Image, options: FindOptions, on_progress: Progress | None = None) -> Segmentation:
        """Return every droplet of an image; on_progress as in ``propose``."""
        watch = Stopwatch()
        proposals = self.proposals(image, on_progress)
        watch.lap("propose")
        stars = select(proposals, options)
        hw = (image.height, image.width)
        # Who says what is small enough gets all of it.
        small = much_smaller(stars, hw) & (options.diameter_min_px is None)
        watch.lap("select")
        masks = stars.take(~small).masks(hw)
        watch.lap("fill")
        message = _left_out(stars.take(small), options) if masks else _why_nothing(proposals, options)
        parameters = asdict(options) | {"n_much_smaller": int(small.sum())}
        return Segmentation(masks, self.info, parameters, watch.timings_s, message)

    def predict(self, image: Image, prompt: Prompt) -> Segmentation:
        """Return the droplet under the points or in the box."""
        watch = Stopwatch()
        prompt, hw = prompt.inside(image.width, image.height), (image.height, image.width)
        # A click must not wait until all of a large picture was looked at: its own place is enough.
        at_once = image.width * image.height <= _AT_ONCE_PX or self._key(image) in self._cache
        proposals = self.proposals(image) if at_once else Stars.none()
        watch.lap("propose")
        ranked = _matching(proposals, prompt, hw)
        if len(ranked) == 0 or ranked.score[0] < _SURE:
            closer = self._closer_look(image, prompt)
            seen = Stars.join([proposals, closer])
            ranked = _matching(seen, prompt, hw)
            if prompt.box_xyxy is None and ranked.score.max(initial=0) < _BACKGROUND:
                ranked = corrected(seen.take(seen.score >= _BACKGROUND), prompt)
            watch.lap("closer_look")
        chosen, message = _answer(ranked, prompt)
        masks = chosen.masks(hw)
        if not masks and prompt.box_xyxy is not None:
            masks = _box_ellipse(prompt.box_xyxy, hw)
            message = "No rim was found in this box; the outline is the ellipse that fills it."
        watch.lap("decide")
        return Segmentation(masks, self.info, {"prompt": asdict(prompt)}, watch.timings_s, message)

    def proposals(self, image: Image, on_progress: Progress | None = None) -> Stars:
        """Return the cached proposals of an image, or compute them once."""

        def compute() -> Arrays:
            stars = propose(self._runtime, _seen(image), on_progress)
            return {"centre_xy": stars.centre_xy, "radii": stars.radii, "score": stars.score}

        answer = self._cache.get_or_compute(self._key(image), compute)
        found = {k: np.asarray(v, np.float32) for k, v in answer.items()}
        return Stars(found["centre_xy"], found["radii"], found["score"])

    def _key(self, image: Image) -> str:
        return f"droplet-net/{_PROPOSALS_VERSION}/{self.info.sha256}/{image.digest}"

    def _closer_look(self, image: Image, prompt: Prompt) -> Stars:
        """Look again at the place of a prompt, at the magnifications that suit all droplet sizes."""
        if prompt.box_xyxy is not None:
            x0, y0, x1, y1 = prompt.box_xyxy
            centre = (x0 + x1) / 2, (y0 + y1) / 2
            sides = [2.5 * max(x1 - x0, y1 - y0)]
        else:
            centre = tuple(prompt.positive_xy.mean(axis=0))
            spread = float(np.ptp(prompt.positive_xy, axis=0).max())
            sides = [side for side in _CLOSER_SIDES_PX if side > 1.5 * spread]
        found = []
        for side in sides:
            left, top = (max(0, round(c - side / 2)) for c in centre)
            window = _seen(image)[top : top + round(side), left : left + round(side)]
            scale = _CLOSER_NETWORK_PX / side
            low_high, halves = grey_range(window), pyramid(window)
            # Only halves of what a big box shows are small enough to be resized as floats.
            level = min(len(halves) - 1, max(0, int(np.log2(side / _CLOSER_SIDES_PX[-1]))))
            stars = self._runtime.stars(halves[level], scale * 2**level, _CLOSER_THRESHOLD, low_high)
            stars = stars.scaled(2.0**level)
            # What fills its window is background, or a droplet for a wider window.
            stars = stars.take(trusted(2 * stars.equivalent_radii() * scale) > 0)
            stars, _ = self._runtime.second_look(halves, low_high, stars)
            found.append(stars.scaled(1.0, (float(left), float(top))))
        return Stars.join(found)


def _seen(image: Image) -> NDArray[np.generic]:
    """Return the channels that DropletNet looks at, so that no other one decides on their grey range."""
    return image.pixels[..., :3]


def _diameters_told(stars: Stars, options: FindOptions) -> NDArray[np.float32]:
    """Return diameters as they are measured: in px of an image not enlarged, and with the rim moved."""
    seen = 2 * stars.equivalent_radii() / np.float32(options.magnification)
    return np.asarray(np.maximum(seen + np.float32(2 * options.rim_offset_px), 0), np.float32)


def _left_out(small: Stars, options: FindOptions) -> str | None:
    if len(small) == 0:
        return None
    largest = _diameters_told(small, options).max()
    what = "outline is" if len(small) == 1 else "outlines are"
    return (
        f"{len(small)} more {what} at most {largest:.0f} px wide, less than a third of the droplets, "
        "and left out as satellites or dust. Give a smallest diameter to have them, or click one."
    )


def _why_nothing(proposals: Stars, options: FindOptions) -> str:
    anything = select(proposals, FindOptions(sensitivity=options.sensitivity))
    if len(anything):
        diameter = _diameters_told(anything, options)
        return (
            f"0 droplets: {len(anything)} were seen, {diameter.min():.0f} to {diameter.max():.0f} px wide, "
            "but none within the size limits and region asked for."
        )
    best = float(proposals.score.max()) if len(proposals) else 0.0
    return (
        f"0 droplets: the best outline scored {best:.2f}, below the {options.threshold:.2f} that counts. "
        "Raise the sensitivity, or click droplets one by one."
    )


def _matching(stars: Stars, prompt: Prompt, image_hw: tuple[int, int]) -> Stars:
    """Return the outlines that agree with a prompt, best first."""
    fits = stars.contain(prompt.positive_xy).all(axis=1)
    fits &= ~stars.contain(prompt.negative_xy).any(axis=1)
    rank = stars.score.astype(np.float64)
    if prompt.box_xyxy is not None:
        overlap = _box_iou(stars, prompt.box_xyxy, image_hw)
        fits &= overlap > 0.4
        rank = overlap * np.sqrt(stars.score)
    index = np.flatnonzero(fits)
    return stars.take(index[np.argsort(-rank[index], kind="stable")])


def _box_iou(
    stars: Stars, box_xyxy: tuple[float, float, float, float], image_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the IoU of a box with the bounding box of each outline, as far as the image shows it."""
    points = stars.centre_xy[:, None] + stars.radii[..., None] * unit_rays()  # (N, 32, 2)
    points = np.clip(points, 0, (image_hw[1], image_hw[0]))
    low, high = points.min(axis=1), points.max(axis=1)
    box_low, box_high = np.array(box_xyxy[:2]), np.array(box_xyxy[2:])
    shared = np.clip(np.minimum(high, box_high) - np.maximum(low, box_low), 0, None).prod(axis=1)
    union = (high - low).prod(axis=1) + (box_high - box_low).prod() - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float64)


def _answer(ranked: Stars, prompt: Prompt) -> tuple[Stars, str | None]:
    """Choose what to show for a prompt, and what to say about it."""
    if len(ranked) == 0 or ranked.score.max() < _BACKGROUND:
        if len(prompt.points_xy) > 1:
            return Stars.none(), "No outline agrees with all of these points: undo one, or draw the outline."
        return Stars.none(), "No droplet was found here: this looks like background."
    distinct: list[int] = []
    radius = ranked.equivalent_radii()
    for k in range(len(ranked)):
        alike = any(abs(np.log(radius[k] / radius[other])) < 0.2 for other in distinct)
        if not alike and ranked.score[k] >= _BACKGROUND:
            distinct.append(k)
        if len(distinct) == (_MOST_CANDIDATES if prompt.multimask else 1):
            break
    chosen = ranked.take(np.array(distinct, np.intp))
    doubtful = chosen.score[0] < _SURE
    return chosen, "Doubtful: the rim is faint here. Check the outline." if doubtful else None


def _box_ellipse(box_xyxy: tuple[float, float, float, float], image_hw: tuple[int, int]) -> list[Mask]:
    """Return the ellipse that fills a box, with the lowest score."""
    x0, y0, x1, y1 = box_xyxy
    half = np.array([x1 - x0, y1 - y0]) / 2
    mask = mask_from_polygon(np.array([x0, y0]) + half + unit_rays(96) * half, 0.0, image_hw)
    return [] if mask is None else [mask]
