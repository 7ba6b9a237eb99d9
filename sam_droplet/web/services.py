"""What one process of the web application holds, made once in ``create_app`` and handed to the views."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from flask import current_app, g
from numpy.typing import NDArray

from sam_droplet.config import Config
from sam_droplet.errors import ModelUnavailable, OutOfMemory, SamDropletError, Unavailable
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.imaging.synthetic import render_sample
from sam_droplet.measurement.droplets import SearchProgress
from sam_droplet.pipeline import FindOptions
from sam_droplet.service.access import Caller, KeyRing
from sam_droplet.service.admission import Gate
from sam_droplet.service.analyst import Analyst
from sam_droplet.service.objectives import Objectives
from sam_droplet.service.replacement import ResultLike
from sam_droplet.service.shares import Shares
from sam_droplet.service.store import Store
from sam_droplet.service.workbench import CacheLike, SegmenterLike, Workbench
from sam_droplet.web.job_desk import JobDesk
from sam_droplet.web.meter import Meter, Metrics

log = logging.getLogger(__name__)

RETRY_S = 15.0
OOM_RETRY_S = 30
_OUT_OF_MEMORY = (
    "This image needs more memory than the server has free now, and nothing was changed. "
    "Try again later, or send a smaller image or part of it."
)


class Engine:
    """Stand in for the segmenter: make it on first use, in this process, and queue in front of it.

    Making it late keeps torch out of a server's master process, where it would break after the fork.
    """

    def __init__(
        self,
        make_segmenter: Callable[[], SegmenterLike],
        gate: Gate,
        observe: Callable[[Mapping[str, float]], None],
    ) -> None:
        self.gate = gate
        self._observe = observe
        self.failure: str | None = None
        self.on_broken: Callable[[], None] = lambda: None
        self._make_segmenter = make_segmenter
        self._segmenter: SegmenterLike | None = None
        self._warm = False
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether a network is in memory and ready to answer."""
        return self._warm and self._segmenter is not None and self._segmenter.loaded

    def find(self, image: Image, options: Any, on_progress: SearchProgress | None = None) -> ResultLike:
        """Find droplets when it is this request's turn."""
        with self._turn() as waited_s:
            result = self._ready().find(image, options, on_progress)
        return self._timed(result, waited_s)

    def predict(self, image: Image, prompt: Any, model: str = "auto") -> ResultLike:
        """Answer a prompt before the whole-image requests that wait."""
        with self._turn(urgent=True) as waited_s:
            result = self._ready().predict(image, prompt, model)
        return self._timed(result, waited_s)

    def proposals(self, image: Image) -> NDArray[np.float32]:
        """Return the outlines that clicks are answered from when it is this request's turn."""
        with self._turn():
            found = self._ready().proposals(image)
        self._answered()
        return found

    def models(self) -> list[dict[str, Any]]:
        """Say which networks there are."""
        return self._ready().models()

    def runs_on(self) -> dict[str, str]:
        """Name what runs each network that is in memory."""
        segmenter = self._segmenter
        return {} if segmenter is None else segmenter.runs_on()

    def gpu_memory_bytes(self) -> dict[str, int] | None:
        """Return used and total bytes of the GPU that the network is on; None without one."""
        segmenter = self._segmenter
        return None if segmenter is None else segmenter.gpu_memory_bytes()

    @property
    def cache(self) -> CacheLike | None:
        """What keeps the networks' work on images; None until they are in memory."""
        segmenter = self._segmenter
        return None if segmenter is None else segmenter.cache

    def warm_up(self) -> None:
        """Load the default network and run it once, so that the first request is fast."""
        started = time.monotonic()
        try:
            self._ready().warm_up()
            if not self._ready().find(_known_image(), FindOptions()).droplets:
                raise ModelUnavailable(
                    "The network found nothing on an image full of droplets; fetch it anew."
                )
        except SamDropletError as error:
            self.failure = error.message
            log.error("The network cannot be used: %s", error.message)
            return
        except Exception:
            self.failure = "The network failed its first image; the server's log says how."
            log.exception("The network failed its first image")
            return
        self._answered()
        log.info("The network is ready after %.1f s.", time.monotonic() - started)

    def warm_up_in_background(
        self, closing: threading.Event, then: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        """Warm up without making anybody wait; try again now and then until it works, and go on with then."""

        def keep_trying() -> None:
            self.warm_up()
            while not self._warm and not closing.wait(RETRY_S):
                self.warm_up()
            if self._warm:
                then()

        thread = threading.Thread(target=keep_trying, name="warm-up", daemon=True)
        thread.start()
        return thread

    @contextmanager
    def _turn(self, *, urgent: bool = False) -> Iterator[float]:
        """Wait for the predictor, and say in our words what an accelerator or the memory failed with."""
        with self.gate.enter(urgent=urgent) as waited_s:
            try:
                yield waited_s
            except MemoryError as error:
                raise OutOfMemory(_OUT_OF_MEMORY, retry_after_s=OOM_RETRY_S) from error
            except RuntimeError as error:
                # torch's own classes, by name: this side of the seam never imports torch.
                if type(error).__name__ == "OutOfMemoryError":
                    raise OutOfMemory(_OUT_OF_MEMORY, retry_after_s=OOM_RETRY_S) from error
                if type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error):
                    raise self._broken(error) from error
                raise

    def _broken(self, error: RuntimeError) -> Unavailable:
        """Note that the GPU failed for good: after such an error nothing works on it in this process."""
        log.error("The GPU failed, and this process cannot use it any more: %s", error)
        self.failure = "The graphics card failed. The server process must be started anew."
        self._warm = False
        self.on_broken()
        return Unavailable(
            "The graphics card failed, and nothing was changed; try again in a minute.", retry_after_s=60
        )

    def _answered(self) -> None:
        """Note that the network works, also after it had failed, such as once its weights are there."""
        self.failure = None
        self._warm = True

    def _timed(self, result: ResultLike, waited_s: float) -> ResultLike:
        self._answered()
        result.timings_s.setdefault("queue", round(waited_s, 5))
        self._observe(result.timings_s)
        return result

    def _ready(self) -> SegmenterLike:
        with self._lock:
            if self._segmenter is None:
                self._segmenter = self._make_segmenter()
                self._warm = self._warm or self._segmenter.loaded
            return self._segmenter


def _known_image() -> Image:
    """Return a small packed emulsion that no cache has seen, so that the network itself must answer."""
    pixels = render_sample("emulsion")[:256, :256].copy()
    pixels[0, 0] = np.frombuffer(secrets.token_bytes(3), np.uint8)
    return load_image(encode_png(pixels), "warm-up.png")


@dataclass(frozen=True)
class Services:
    """Everything that views need."""

    config: Config
    store: Store
    workbench: Workbench
    analyst: Analyst
    objectives: Objectives
    engine: Engine
    jobs: JobDesk
    key_ring: KeyRing
    shares: Shares
    meter: Meter
    metrics: Metrics
    started_at: float
    closing: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Write what is still in memory and close the database; for the end of the process."""
        self.closing.set()
        self.jobs.engine.stop()
        self.key_ring.flush_usage()
        self.store.close()


def services() -> Services:
    """Return the services of the application that answers the current request."""
    return cast(Services, current_app.extensions["sam_droplet"])


def caller() -> Caller:
    """Return whom the current request acts for; set before every view."""
    return cast(Caller, g.caller)
