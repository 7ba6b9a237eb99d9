"""Decoded images of this process: the least recently used go first, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from sam_droplet.imaging.images import Image


class ImageCache:
    """Keep decoded images so that a click does not decode the file again; thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get_or_load(self, key: str, load: Callable[[], Image]) -> Image:
        """Return the image under the key, loading it where it is not there.

        Two threads that miss at once both load; the images are equal, and neither waits for the other.
        """
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
                return image
        image = load()
        with self._lock:
            self._put(key, image)
        return image

    def _put(self, key: str, image: Image) -> None:
        if key in self._images or image.pixels.nbytes > self.max_bytes:
            return
        self._images[key] = image
        self._n_bytes += image.pixels.nbytes
        while self._n_bytes > self.max_bytes:
            _, oldest = self._images.popitem(last=False)
            self._n_bytes -= oldest.pixels.nbytes
