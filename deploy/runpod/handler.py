"""SAM Droplet as a RunPod serverless worker: an image in, its droplets out. Nothing is kept.

Here: ``python deploy/runpod/handler.py --test_input '{"input": {"image_url": "https://…"}}'``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sam_droplet.config import Config, load_config
from sam_droplet.errors import InputError, PayloadTooLarge, SamDropletError
from sam_droplet.imaging.images import Image, Limits, clean_name, load_image, load_image_base64
from sam_droplet.pipeline import Segmenter, result_as_dict
from sam_droplet.web import payloads
from sam_droplet.web.find_options import WHOLE_OPTIONS, read_whole_options
from sam_droplet.web.legacy_answers import read_calibration

Json = dict[str, Any]
Handler = Callable[[Mapping[str, Any]], Json]
Fetch = Callable[[str, int], bytes]

NAMES = ("image", "image_url", "filename", *WHOLE_OPTIONS, "um_per_px", "chamber_height_um")
log = logging.getLogger("sam_droplet.runpod")


def make_handler(config: Config, segmenter: Any, fetch: Fetch) -> Handler:
    """Return what answers one job: the result as the command line prints it, or {"error": a sentence}."""
    limits = Limits(config.max_upload_bytes, config.max_image_pixels, config.max_pages)

    def handler(job: Mapping[str, Any]) -> Json:
        try:
            given = payloads.known_only(job.get("input"), NAMES, "input")
            image = _image(given, limits, fetch)
            calibration = read_calibration(given, image)
            return result_as_dict(image, segmenter.find(image, read_whole_options(given)), calibration)
        except SamDropletError as error:
            return {"error": error.message}
        except Exception as error:
            # RunPod would send the whole traceback to the caller; and after such an error a GPU is often
            # of no more use to this process, so another worker takes the next job.
            log.exception("A job failed")
            return {
                "error": f"Something broke on the worker ({type(error).__name__}).",
                "refresh_worker": True,
            }

    return handler


def fetch_safely(url: str, at_most_bytes: int) -> bytes:
    """Download with RunPod's own guard: public addresses only, also after redirects, and bounded bytes."""
    from runpod.serverless.utils.rp_ssrf import iter_content_capped, safe_get  # type: ignore[import-not-found]

    try:
        with safe_get(url, stream=True, timeout=30, headers={}) as response:
            response.raise_for_status()
            data = b"".join(iter_content_capped(response, 1 << 20, at_most_bytes + 1))
    except (OSError, ValueError) as error:  # requests' own errors are of these kinds
        raise InputError(f"image_url could not be downloaded ({type(error).__name__}); check it.") from error
    if len(data) > at_most_bytes:
        raise PayloadTooLarge(f"The file at image_url is larger than {at_most_bytes >> 20} MiB.")
    return data


def _image(given: Mapping[str, Any], limits: Limits, fetch: Fetch) -> Image:
    encoded, url = payloads.text(given, "image", ""), payloads.text(given, "image_url", "")
    if bool(encoded) == bool(url):
        raise InputError("Send the file either as base64 text in image or as its address in image_url.")
    name = clean_name(payloads.text(given, "filename", "image"))
    if encoded:
        return load_image_base64(encoded, name, limits)
    return load_image(fetch(url, limits.max_bytes), name, limits)


if __name__ == "__main__":
    import runpod  # type: ignore[import-not-found]

    configured = load_config()
    loaded = Segmenter(configured)
    loaded.warm_up()  # before RunPod counts the worker as ready
    runpod.serverless.start({"handler": make_handler(configured, loaded, fetch_safely)})
