"""Run networks with OpenVINO on the processor, converted from torch in memory. Never opens the network."""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

log = logging.getLogger(__name__)

# A converted network must agree with torch on its example to this, relative to the largest value.
TOLERANCE = 1e-3
# Converted networks of one name that are kept on disk, the newest; weights change now and then.
_KEPT = 4
# Inputs of more values than this leave working memory behind that is better given back.
_LARGE_INPUT = 3 * 1200 * 1200


class OpenVinoEngine:
    """Run one network with OpenVINO in float32."""

    place = "cpu (openvino)"

    def __init__(
        self,
        name: str,
        module: nn.Module,
        example: Tensor,
        sides_vary: bool,
        threads: int,
        folder: Path | None,
    ) -> None:
        core = import_openvino().Core()
        model = _stored_or_converted(core, name, module, (example,), sides_vary, folder)
        self._compiled = core.compile_model(model, "CPU", _settings(threads))
        self._request = self._compiled.create_infer_request()
        self._most_values = 0

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for one (B, C, H, W) float32 input."""
        pixels = np.ascontiguousarray(x.numpy())
        answer = self._request.infer([pixels], share_inputs=True, share_outputs=True)
        outputs = tuple(torch.from_numpy(np.asarray(value)) for value in answer.values())
        self._most_values = max(self._most_values, pixels.size)
        return outputs

    def rest(self) -> None:
        """Give working memory back where the last inputs were large."""
        if self._most_values > _LARGE_INPUT:
            self._request = self._compiled.create_infer_request()
            self._compiled.release_memory()
            self._most_values = 0


class OpenVinoGraph:
    """Run one network that has several inputs of fixed shape, with OpenVINO in float32."""

    def __init__(
        self, name: str, module: nn.Module, examples: tuple[Tensor, ...], threads: int, folder: Path | None
    ) -> None:
        self._core, self._threads = import_openvino().Core(), threads
        self._model = _stored_or_converted(self._core, name, module, examples, False, folder)
        compiled = self._core.compile_model(self._model, "CPU", _settings(threads))
        self._request = compiled.create_infer_request()
        self._requests_ahead: list[Any] = []

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for inputs shaped as the examples; the next call overwrites them."""
        arrays = [np.ascontiguousarray(x.numpy()) for x in inputs]
        answer = self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return tuple(torch.from_numpy(np.asarray(value)) for value in answer.values())

    def run_many(self, inputs: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield the outputs for each of many inputs, in order; asking for the next overwrites them.

        Each thread runs inputs of its own, which takes two thirds of the processor time of sharing one, and
        the next are under way while one is used.
        """
        source, running = iter(inputs), deque[tuple[Any, list[NDArray[Any]]]]()

        def start(request: Any) -> None:
            following = next(source, None)
            if following is not None:
                arrays = [np.ascontiguousarray(x.numpy()) for x in following]
                request.start_async(arrays, share_inputs=True)
                running.append((request, arrays))  # the request only borrows the arrays

        try:
            for request in self._ahead():
                start(request)
            while running:
                request, _ = running.popleft()
                request.wait()
                yield tuple(torch.from_numpy(output.data) for output in request.output_tensors)
                start(request)
        finally:
            for request, _ in running:
                request.wait()

    def _ahead(self) -> list[Any]:
        """Return requests that run side by side, one more than threads: one is being used."""
        if not self._requests_ahead:
            compiled = self._core.compile_model(self._model, "CPU", _settings(self._threads, self._threads))
            self._requests_ahead = [compiled.create_infer_request() for _ in range(self._threads + 1)]
        return self._requests_ahead


def _settings(threads: int, streams: int = 1) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # some processors would otherwise round to bfloat16
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # several workers would pin themselves to the same cores
    }


def import_openvino() -> ModuleType:
    """Import OpenVINO without its converter, which reports each import to its maker over the network."""
    converter = "openvino.tools.ovc"
    block = "openvino" not in sys.modules and converter not in sys.modules
    if block:
        sys.modules[converter] = None  # type: ignore[assignment]  # Python's way to make an import fail
    try:
        import openvino  # type: ignore[import-untyped]
    finally:
        if block:
            del sys.modules[converter]
    module: ModuleType = openvino
    return module


def _stored_or_converted(
    core: Any,
    name: str,
    module: nn.Module,
    examples: tuple[Tensor, ...],
    sides_vary: bool,
    folder: Path | None,
) -> Any:
    """Return the converted network, from the folder where an earlier start left it."""
    key = _fingerprint(module, examples, sides_vary)
    path = None if folder is None else folder / f"{name}-{key}.xml"
    if path is not None and path.is_file():
        try:
            return core.read_model(path)
        except RuntimeError as error:  # damaged by a full disk or by hand: convert anew
            log.warning("%s cannot be read and is made anew: %s", path, error)
    model = _convert(module, examples, sides_vary)
    _check(core, model, module, examples)
    if path is not None:
        _store(model, name, path)
    return model


def _convert(module: nn.Module, examples: tuple[Tensor, ...], sides_vary: bool) -> Any:
    """Return the network as OpenVINO's; RuntimeError where it does something that has no counterpart."""
    from openvino.frontend import (  # type: ignore[import-untyped]
        FrontEndManager,
        GeneralFailure,
        OpConversionFailure,
    )
    from openvino.frontend.pytorch.ts_decoder import (  # type: ignore[import-untyped]
        TorchScriptPythonDecoder,
    )

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing notes every Python number, and that it will be replaced
        traced = TorchScriptPythonDecoder(module, example_input=examples, trace_kwargs={"check_trace": False})
    frontend = FrontEndManager().load_by_framework("pytorch")
    try:
        model = frontend.convert(frontend.load(traced))
    except (GeneralFailure, OpConversionFailure) as error:
        raise RuntimeError(f"it cannot be converted ({' '.join(str(error).split())[:300]})") from error
    shapes = {i: [*x.shape[:2], -1, -1] if sides_vary else list(x.shape) for i, x in enumerate(examples)}
    model.reshape(shapes)
    return model


def _check(core: Any, model: Any, module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    """Raise RuntimeError unless the converted network answers its examples as torch does."""
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = module(*examples)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for theirs, ours in zip(compiled([x.numpy() for x in examples]).values(), expected, strict=True):
        error = float(np.abs(theirs - ours.numpy()).max() / max(1e-6, ours.abs().max().item()))
        if not error < TOLERANCE:
            raise RuntimeError(f"the converted network is off by {error:.2g} of its largest value")


def _fingerprint(module: nn.Module, examples: tuple[Tensor, ...], sides_vary: bool) -> str:
    """Hash all that the converted network depends on: weights, source text, shapes and versions."""
    ours = {type(part).__module__ for part in module.modules()}
    ours |= {getattr(value, "__module__", "") for name in ours for value in vars(sys.modules[name]).values()}
    sources = [inspect.getsource(sys.modules[name]) for name in ours if str(name).startswith("sam_droplet.")]
    shapes = [tuple(x.shape) for x in examples]
    versions = [import_openvino().get_version(), torch.__version__, str(shapes), str(sides_vary)]
    digest = hashlib.blake2b("\n".join([*versions, *sorted(sources)]).encode(), digest_size=16)
    for key, value in module.state_dict().items():
        digest.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _store(model: Any, name: str, path: Path) -> None:
    """Write the network so that other processes see it whole; where that fails it is converted again."""
    ov = import_openvino()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            written = Path(aside) / path.name
            ov.save_model(model, written, compress_to_fp16=False)
            for suffix in (".bin", ".xml"):  # the weights first: the other file says that all is there
                written.with_suffix(suffix).replace(path.with_suffix(suffix))
    except (OSError, RuntimeError) as error:
        log.warning("The converted network could not be kept in %s: %s", path.parent, error)
        return
    newest = sorted(path.parent.glob(f"{name}-*.xml"), key=lambda p: p.stat().st_mtime)
    for old in newest[:-_KEPT]:
        for suffix in (".xml", ".bin"):
            with suppress(OSError):  # still open in another process, on Windows
                old.with_suffix(suffix).unlink(missing_ok=True)
