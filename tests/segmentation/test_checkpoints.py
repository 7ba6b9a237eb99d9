"""Fetching weights from a local server that resumes, breaks off, lies or is not there."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sam_droplet.config import Config, load_config
from sam_droplet.errors import Conflict, ModelUnavailable, NotFound
from sam_droplet.segmentation import checkpoints
from sam_droplet.segmentation.checkpoints import (
    CHECKPOINTS,
    DROPLET_NET,
    MOBILE_SAM,
    MODEL_FOLDER,
    OWN_MOBILE_SAM,
    Checkpoint,
    fetch,
    fetch_checkpoint,
    find_checkpoints,
    find_prompted,
    list_rows,
    verify,
)

CONTENT = bytes(range(256)) * 12_000  # 3,072,000 bytes: a few chunks


class WeightsServer(ThreadingHTTPServer):
    """Serve CONTENT at /weights.pt, with Range, and note what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.supports_range = True
        self.break_after: list[int] = []  # bytes of each answer after which the connection is cut
        self.ranges: list[str | None] = []

    def handle_error(self, *_args: object) -> None:
        """A client that has seen enough hangs up; that is no fault."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pt"


class Handler(BaseHTTPRequestHandler):
    server: WeightsServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path != "/weights.pt":
            self.send_error(404)
            return
        start = 0
        if asked and self.server.supports_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        content = self.server.content[start:]
        if start and not content:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.server.break_after.pop(0) if self.server.break_after else len(content)
        self.wfile.write(content[:cut])

    def log_message(self, *args: object) -> None:
        """Keep the tests' output quiet."""


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    server = WeightsServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def published(server: WeightsServer) -> Checkpoint:
    return replace(
        MOBILE_SAM,
        filename="weights.pt",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=server.url,
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config({}, {"sam_model_path": tmp_path / "models" / "weights.pt"})


def part_of(config: Config) -> Path:
    assert config.sam_model_path is not None
    config.sam_model_path.parent.mkdir(parents=True, exist_ok=True)
    return config.sam_model_path.with_name("weights.pt.part")


def test_fetch_brings_the_file_with_real_progress(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch_checkpoint(published, config, lambda done, total: seen.append((done, total)))
    assert path == config.sam_model_path
    assert path.read_bytes() == CONTENT
    assert not part_of(config).exists()
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    fetch_checkpoint(published, config)
    assert server.ranges == [None], "a file that is there and right must not be asked for again"


def test_fetch_resumes_what_an_interrupted_one_left(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    part_of(config).write_bytes(CONTENT[:1_000_000])
    assert fetch_checkpoint(published, config).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000000-"]


def test_fetch_takes_a_broken_connection_up_again(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    server.break_after = [1_500_000, 700_000]
    assert fetch_checkpoint(published, config).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1500000-", "bytes=2200000-"]


def test_fetch_keeps_its_part_when_the_connection_breaks_every_time(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    server.break_after = [1000] * 10
    with pytest.raises(ModelUnavailable, match="broke off after 4000 of 3072000 bytes"):
        fetch_checkpoint(published, config)
    assert part_of(config).stat().st_size == 4000
    server.break_after = []
    assert fetch_checkpoint(published, config).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=4000-"


def test_fetch_starts_over_where_the_server_cannot_resume(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    server.supports_range = False
    part_of(config).write_bytes(CONTENT[:1_000_000])
    assert fetch_checkpoint(published, config).read_bytes() == CONTENT


def test_fetch_starts_over_where_the_part_was_of_other_bytes(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    part_of(config).write_bytes(b"x" * 1_000_000)
    assert fetch_checkpoint(published, config).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000000-", None]


def test_fetch_refuses_other_bytes_and_leaves_nothing(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(ModelUnavailable, match="sent other bytes") as failure:
        fetch_checkpoint(published, config)
    assert published.sha256 is not None
    assert published.sha256 in failure.value.message
    assert list(part_of(config).parent.iterdir()) == []


@pytest.mark.parametrize("length", [100, len(CONTENT) + 5_000_000])
def test_fetch_refuses_a_file_of_another_length(
    server: WeightsServer, published: Checkpoint, config: Config, length: int
) -> None:
    server.content = (CONTENT * 3)[:length]
    with pytest.raises(ModelUnavailable):
        fetch_checkpoint(published, config)
    assert config.sam_model_path is not None
    assert not config.sam_model_path.exists()


def test_fetch_offline_says_what_to_do(published: Checkpoint, config: Config) -> None:
    nobody = replace(published, url="http://127.0.0.1:9/weights.pt")  # the discard port: nothing listens
    with pytest.raises(ModelUnavailable) as failure:
        fetch_checkpoint(nobody, config)
    message = failure.value.message
    assert failure.value.status == 503
    for part in ("not reachable", "by hand", str(config.sam_model_path), "MODEL_MIRROR_URL"):
        assert part in message


def test_fetch_reports_a_missing_file(published: Checkpoint, config: Config) -> None:
    assert published.url is not None
    gone = replace(published, url=published.url.replace("weights.pt", "gone.pt"))
    with pytest.raises(ModelUnavailable, match="answered 404"):
        fetch_checkpoint(gone, config)


def test_mirror_is_asked_first_and_the_publisher_when_it_fails(
    server: WeightsServer, published: Checkpoint, config: Config
) -> None:
    elsewhere = replace(published, url="http://127.0.0.1:9/weights.pt")
    mirror = replace(config, model_mirror_url=server.url.removesuffix("/weights.pt"))
    assert fetch_checkpoint(elsewhere, mirror).read_bytes() == CONTENT
    assert config.sam_model_path is not None
    config.sam_model_path.unlink()
    broken = replace(config, model_mirror_url="http://127.0.0.1:9/weights.pt")
    assert fetch_checkpoint(published, broken).read_bytes() == CONTENT


def test_mirror_may_be_a_folder(published: Checkpoint, config: Config, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "weights.pt").write_bytes(CONTENT)
    offline = replace(published, url="http://127.0.0.1:9/weights.pt")
    folder = replace(config, model_mirror_url=(tmp_path / "usb").as_uri())
    assert fetch_checkpoint(offline, folder).read_bytes() == CONTENT


def test_fetch_leaves_a_file_of_the_users_own_alone(published: Checkpoint, config: Config) -> None:
    part_of(config)
    assert config.sam_model_path is not None
    config.sam_model_path.write_bytes(b"my own training")
    with pytest.raises(Conflict, match="left alone"):
        fetch_checkpoint(published, config)
    assert config.sam_model_path.read_bytes() == b"my own training"


def test_fetch_refuses_names_without_an_address(config: Config) -> None:
    with pytest.raises(NotFound, match="come with the product"):
        fetch("droplet-net", config)
    with pytest.raises(NotFound, match="are made by `sam-droplet train --model mobile-sam`"):
        fetch("mobile-sam-droplets", config)
    with pytest.raises(NotFound, match="expected one of droplet-net, mobile-sam"):
        fetch("vit-h", config)


def test_find_lists_both_models_where_the_settings_say(config: Config) -> None:
    droplet_net, mobile_sam, own = find_checkpoints(config)
    assert [found.checkpoint for found in (droplet_net, mobile_sam, own)] == list(CHECKPOINTS)
    assert own.path == MODEL_FOLDER / "mobile_sam_droplets.safetensors"
    assert droplet_net.path == MODEL_FOLDER / "droplet_net.safetensors"
    assert mobile_sam.path == config.sam_model_path
    assert not mobile_sam.available
    default = find_checkpoints(load_config({}))[1]
    assert default.path == MODEL_FOLDER / "mobile_sam.pt"
    part_of(config)
    mobile_sam.path.write_bytes(b"1234")
    assert find_checkpoints(config)[1].available
    row = list_rows(config)[1]
    assert (row["name"], row["available"], row["size_bytes"]) == ("mobile-sam", True, 4)
    assert row["published_sha256"] == MOBILE_SAM.sha256


def test_the_list_shows_which_file_answers_which_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DropletNet alone, then our own MobileSAM, then the official one, then the one that a setting names."""
    monkeypatch.setattr(checkpoints, "MODEL_FOLDER", tmp_path)
    for checkpoint in (DROPLET_NET, OWN_MOBILE_SAM, MOBILE_SAM):
        (tmp_path / checkpoint.filename).write_bytes(b"weights")
        told = {row["name"]: row["answers"] for row in list_rows(load_config({}))}
        clicked = [name for name, answers in told.items() if answers and "clicks" in answers]
        assert clicked == [checkpoint.name]
        refined = [name for name, answers in told.items() if answers and "refined" in answers]
        assert refined == [name for name in clicked if name != DROPLET_NET.name]
        assert told[DROPLET_NET.name][0] == "find"
    chosen = load_config({}, {"sam_model_path": tmp_path / "chosen.safetensors"})
    assert not find_prompted(chosen).available  # a wrong setting is told, not passed over
    (tmp_path / "chosen.safetensors").write_bytes(b"weights")
    assert find_prompted(chosen).path == tmp_path / "chosen.safetensors"


def test_verify_tells_absent_wrong_and_unpublished_apart(config: Config, tmp_path: Path) -> None:
    absent = verify("mobile-sam", config)
    assert (absent.sha256, absent.published) == (None, None)
    assert "not here" in absent.sentence
    part_of(config)
    absent.found.path.write_bytes(CONTENT)
    wrong = verify("mobile-sam", config)
    assert wrong.published is False
    assert wrong.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert "NOT the published file" in wrong.sentence
    own = tmp_path / "own.safetensors"
    own.write_bytes(CONTENT)
    trained = verify("droplet-net", replace(config, droplet_model_path=own))
    assert trained.published is None
    assert trained.sha256 == wrong.sha256


def test_mobile_sam_is_pinned_to_one_commit() -> None:
    assert MOBILE_SAM.url is not None
    assert "/f706ad9c4eb7f219c00d9050e46328518ffb65d2/" in MOBILE_SAM.url
    assert MOBILE_SAM.size_bytes == 40_728_226
    assert MOBILE_SAM.sha256 is not None
    assert len(MOBILE_SAM.sha256) == 64
