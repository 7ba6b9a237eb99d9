"""Damage image files at random and read them: only our own errors may come, fast and in bounded memory.

Run as a program: ``python tests/fuzz_images.py --seconds 60 [--seed N]``; it prints the input that failed.
"""

from __future__ import annotations

import argparse
import base64
import io
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import tifffile
from PIL import Image as PillowImage

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Limits, encode_view, load_image

LIMITS = Limits(1 << 20, 1_000_000, 50)
SLOWEST_S = 2.0
MEMORY_BYTES = 6 << 30
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"II*\0",
    b"IEND",
)


def seeds() -> list[bytes]:
    """Return small valid files of every kind that is read."""
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 256, (23, 31), dtype=np.uint8)
    colour = rng.integers(0, 256, (23, 31, 3), dtype=np.uint8)
    deep = rng.integers(0, 4096, (3, 23, 31), dtype=np.uint16)
    files = []
    for pixels in (gray, colour):
        for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF"):
            buffer = io.BytesIO()
            PillowImage.fromarray(pixels).save(buffer, kind)
            files.append(buffer.getvalue())
    for options in (
        {"imagej": True},
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"metadata": {"axes": "CYX"}, "ome": True},
        {"bigtiff": True},
        {"byteorder": ">"},
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, deep, **options)
        files.append(buffer.getvalue())
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, gray.astype(np.float32) / 7)
    files.append(buffer.getvalue())
    return files


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return a file with a few random changes."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(6):
            case 0:
                result[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                value = rng.choice(INTERESTING)
                result[at : at + len(value)] = value
            case 2:
                del result[at : at + rng.randrange(1, 64)]
            case 3:
                result[at:at] = result[at : at + rng.randrange(1, 64)]
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                result[at : at + 16] = other[start : start + 16]
            case _:
                result[at // 2 : at // 2 + 4] = rng.randrange(2**32).to_bytes(
                    4, rng.choice(("little", "big"))
                )
    return bytes(result)


def check(data: bytes) -> str | None:
    """Read a file; return what is wrong with how that went, or None."""
    started = time.process_time()  # the work, not what other programs do meanwhile
    try:
        image = load_image(data, "fuzz", LIMITS)
        encode_view(image, 64)
    except InputError:
        pass
    except Exception as error:  # noqa: BLE001 - any other error is what this looks for
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    return f"took {seconds:.1f} s" if seconds > SLOWEST_S else None


def main() -> int:
    """Fuzz for a while; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng, files, ends, n_read = random.Random(arguments.seed), seeds(), time.monotonic() + arguments.seconds, 0
    while time.monotonic() < ends:
        data = damaged(rng.choice(files), files, rng)
        problem = check(data)
        n_read += 1
        if problem is not None:
            print(f"{problem}\nafter {n_read} files, seed {arguments.seed}; the file in base64:")
            print(base64.b64encode(data).decode())
            return 1
    print(f"{n_read} damaged files read in {arguments.seconds:g} s: nothing found.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
