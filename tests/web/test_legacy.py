"""The original application's requests and fields keep working, without its defects."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile

import numpy as np
import pytest
from discs import disc_pixels, disc_png
from PIL import Image as PillowImage

from sam_droplet.imaging.images import encode_png
from sam_droplet.imaging.masks import rle_decode
from sam_droplet.web import services_of

TOP_FIELDS = {
    "success", "num_masks", "original_count", "preprocessing_removed", "user_filter_removed",
    "preprocessing_info", "masks", "filters_applied", "preprocessing_applied", "summary_statistics",
    "original_masks_for_frontend",
}  # fmt: skip
MASK_FIELDS = {
    "id", "image", "area", "bbox", "stability_score", "max_feret_diameter", "pixel_stats", "edge_stats",
}  # fmt: skip


def send(client, data=None, name="discs.png", **form):
    fields = {key: value if isinstance(value, str) else json.dumps(value) for key, value in form.items()}
    return client.post(
        "/segment_file", data={"file": (io.BytesIO(disc_png() if data is None else data), name)} | fields
    )


def test_segment_file_has_every_documented_field(client):
    answer = send(client).json
    assert set(answer) >= TOP_FIELDS
    assert (answer["success"], answer["num_masks"], answer["original_count"]) == (True, 5, 5)
    mask = answer["masks"][0]
    assert set(mask) >= MASK_FIELDS
    assert set(mask["pixel_stats"]) == {
        "mean_intensity", "min_intensity", "max_intensity", "std_intensity", "median_intensity",
        "pixel_count", "max_feret_diameter", "circularity",
    }  # fmt: skip
    assert set(mask["edge_stats"]) == {
        "min_distance_to_edge", "touches_edge", "distances", "edge_touching_sides",
    }  # fmt: skip
    assert set(answer["summary_statistics"]) >= {
        "total_masks", "masks_with_diameter", "average_diameter", "diameter_stats", "intensity_analysis",
    }  # fmt: skip
    assert set(answer["summary_statistics"]["diameter_stats"]) == {
        "count", "mean", "std", "cv", "median", "min", "max",
    }  # fmt: skip


def test_a_masks_picture_run_lengths_and_numbers_agree(client):
    answer = send(client).json
    for mask in answer["masks"]:
        header, encoded = mask["image"].split(",")
        assert header == "data:image/png;base64"
        picture = PillowImage.open(io.BytesIO(base64.b64decode(encoded)))
        assert picture.size == (200, 150)
        bits = np.array(picture.convert("L")) > 0
        decoded = rle_decode(mask["rle"])
        x, y, w, h = mask["bbox"]
        assert np.array_equal(bits[y : y + h, x : x + w], decoded.bits)
        assert bits.sum() == mask["area"] == mask["pixel_stats"]["pixel_count"]
        assert disc_pixels()[bits].mean() == pytest.approx(mask["pixel_stats"]["mean_intensity"], rel=1e-6)


def test_segment_takes_base64_with_and_without_a_data_url(client):
    encoded = base64.b64encode(disc_png()).decode()
    by_file = send(client).json["masks"]
    for text in (encoded, f"data:image/png;base64,{encoded}"):
        answer = client.post("/segment", json={"image": text})
        assert answer.status_code == 200
        assert answer.json["masks"] == by_file


def test_filters_remove_with_a_count(client):
    filters = {"area_min": 400, "min_edge_distance": 1}
    answer = send(client, filters=filters).json
    assert (answer["num_masks"], answer["original_count"], answer["user_filter_removed"]) == (3, 5, 2)
    assert answer["filters_applied"]["area_min"] == 400
    assert [m["id"] for m in answer["original_masks_for_frontend"]] == [1, 2, 3, 4, 5]
    assert answer["summary_statistics"]["total_masks"] == 3
    assert answer["summary"]["excluded_by_reason"] == {"area_px_below": 1, "edge_distance_px_below": 1}
    diameters = [m["max_feret_diameter"] for m in answer["masks"]]
    stats = answer["summary_statistics"]["diameter_stats"]
    assert stats["mean"] == pytest.approx(np.mean(diameters))
    assert stats["std"] == pytest.approx(np.std(diameters, ddof=1))
    assert stats["cv"] == pytest.approx(100 * stats["std"] / stats["mean"])


def test_filters_see_the_intensities(client):
    pixels = disc_pixels()
    pixels[25:56, 70:110][pixels[25:56, 70:110] == 180] = 240
    png = encode_png(pixels)
    assert send(client, png, filters={"mean_min": 200}).json["num_masks"] == 1
    assert send(client, png, filters={"mean_max": 200}).json["num_masks"] == 4
    assert send(client, png, filters={"max_threshold": 239}).json["num_masks"] == 4
    assert send(client, png, filters={"min_threshold": 181}).json["num_masks"] == 1
    assert send(client, png, filters={"std_max": 0}).json["num_masks"] == 5
    groups = send(client, png, filters={"intensity_threshold": 200}).json["summary_statistics"]
    analysis = groups["intensity_analysis"]
    assert (analysis["threshold"], analysis["overall"]["count"]) == (200, 5)
    assert (analysis["high_intensity"]["count"], analysis["low_intensity"]["count"]) == (1, 4)


@pytest.mark.parametrize(
    ("field", "value", "fragment"),
    [
        ("filters", {"area": 5}, "Unknown name 'area'"),
        ("filters", {"area_min": "big"}, "numbers"),
        ("filters", {"area_min": 10, "area_max": 5}, "must not be above"),
        ("filters", {"enable_intensity_coloring": 1}, "true or false"),
        ("filters", "{", "not JSON"),
        ("filters", "[]", "JSON object"),
        ("filters", '{"area_min": NaN}', "finite"),
        ("preprocessing", {"sharpen": True}, "Unknown name 'sharpen'"),
        ("preprocessing", {"gaussian_kernel_size": 4}, "odd"),
        ("preprocessing", {"gaussian_blur": "yes"}, "true or false"),
        ("sensitivity", "high", "number"),
        ("sensitivity", "3", "from 0 to 1"),
        ("mode", "circles", "refined"),
        ("rim_offset_px", "101", "rim_offset_px"),
        ("um_per_px", "0", "um_per_px"),
        ("chamber_height_um", "0", "chamber_height_um"),
    ],
)
def test_a_wrong_value_is_a_sentence(client, field, value, fragment):
    response = send(client, **{field: value})
    assert response.status_code == 400
    assert (response.json["success"], response.json["code"]) == (False, "bad_input")
    assert fragment in response.json["error"]


def test_preprocessing_never_reaches_the_measurements(client):
    preprocessing = {"gaussian_blur": True, "gaussian_kernel_size": 9, "gaussian_sigma": 3}
    preprocessing |= {"contrast_enhancement": True, "median_filter": True, "unsharp_mask": True}
    preprocessing |= {"morphological_opening": True, "morphological_closing": True}
    answer = send(client, preprocessing=preprocessing).json
    assert answer["preprocessing_applied"]["gaussian_sigma"] == 3
    assert len(answer["preprocessing_info"]["steps"]) == 6
    assert answer["num_masks"] >= 4
    assert {m["pixel_stats"]["max_intensity"] for m in answer["masks"]} == {180}


def test_sixteen_bits_are_not_clipped(client):
    deep = (disc_pixels().astype(np.uint16) * 100) + 7
    answer = send(client, encode_png(deep)).json
    assert {m["pixel_stats"]["max_intensity"] for m in answer["masks"]} == {18007}


def test_a_tif_is_taken_whatever_its_name(client):
    buffer = io.BytesIO()
    PillowImage.fromarray(disc_pixels()).save(buffer, "TIFF")
    for name in ("x.tif", "x.tiff", "x.png", "x"):
        assert send(client, buffer.getvalue(), name).json["num_masks"] == 5


def test_the_scale_gives_micrometres(client):
    answer = send(client, um_per_px="0.5").json
    mask = answer["masks"][0]
    assert mask["diameter_um"] == pytest.approx(mask["diameter_px"] / 2)
    assert answer["um_per_px"] == 0.5


@pytest.mark.parametrize("address", ["/segment_file", "/advanced_analysis"])
def test_a_low_chamber_flattens_the_droplets(client, address):
    def answer(**scale):
        if address == "/segment_file":
            return send(client, **{name: str(value) for name, value in scale.items()})
        return analyse(client, **scale)

    sphere = answer(um_per_px=0.5).json["summary"]
    low = answer(um_per_px=0.5, chamber_height_um=4).json
    assert low["chamber_height_um"] == low["summary"]["chamber_height_um"] == 4
    assert low["summary"]["diameter_um"] == sphere["diameter_um"]
    assert low["summary"]["volume_pl"]["mean"] < 0.9 * sphere["volume_pl"]["mean"]
    without = answer(chamber_height_um=4)
    assert without.status_code == 400
    assert "chamber_height_um needs a scale" in without.json["error"]


@pytest.mark.parametrize("address", ["/segment_file", "/segment"])
def test_outlines_may_be_wanted_outside_the_line_of_the_rim(client, address):
    def diameters_px(**options):
        if address == "/segment_file":
            answer = send(client, **options).json
        else:
            image = base64.b64encode(disc_png()).decode()
            answer = client.post(address, json={"image": image} | options).json
        return np.array([mask["diameter_px"] for mask in answer["masks"]])

    # The border cuts the last one.
    assert diameters_px(rim_offset_px=2)[:4] == pytest.approx(diameters_px(mode="droplets")[:4] + 4, abs=0.4)


def test_pictures_can_be_left_out(client):
    answer = send(client, mask_images="false").json
    assert {m["image"] for m in answer["masks"]} == {None}


def test_an_image_without_droplets_says_why(client):
    answer = send(client, disc_png([])).json
    assert (answer["success"], answer["num_masks"], answer["masks"]) == (True, 0, [])
    assert answer["message"].startswith("0 droplets")
    assert answer["summary_statistics"]["average_diameter"] is None


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"<html>", 415), (disc_png()[:300], 422), (b"GIF89a" + b"\0" * 50, 415)],
)
def test_a_bad_file_is_told(client, data, status):
    assert send(client, data).status_code == status


def test_missing_parts_are_told(client):
    assert client.post("/segment_file").status_code == 400
    assert client.post("/segment", json={}).status_code == 400
    assert client.post("/segment", json={"image": "%%%"}).status_code == 400
    assert client.post("/segment", json={"image": 5}).status_code == 400
    assert client.post("/analyze_image").status_code == 400


def test_analyze_image_describes_the_raw_pixels(client):
    deep = (disc_pixels().astype(np.uint16) * 100) + 7
    file = (io.BytesIO(encode_png(deep)), "deep.png")
    answer = client.post("/analyze_image", data={"file": file}).json
    assert (answer["success"], answer["filename"]) == (True, "deep.png")
    stats = answer["analysis"]["overall_stats"]
    assert set(stats) >= {"mean", "min", "max", "std", "median", "histogram"}
    assert (stats["min"], stats["max"], len(stats["histogram"])) == (4007, 18007, 50)
    assert stats["mean"] == pytest.approx(deep.mean())
    assert sum(stats["histogram"]) == 200 * 150
    info = answer["analysis"]["image_info"]
    assert (info["width"], info["height"], info["channels"], info["total_pixels"]) == (200, 150, 1, 30_000)


def test_defaults_are_what_sending_nothing_means(client):
    answer = client.get("/defaults").json
    assert set(answer) == {"defaults", "description"}
    sent = send(
        client, filters=answer["defaults"]["filters"], preprocessing=answer["defaults"]["preprocessing"]
    )
    plain = send(client)
    for name in ("masks", "filters_applied", "preprocessing_applied"):
        assert sent.json[name] == plain.json[name]
    for group in ("filters", "preprocessing"):
        assert set(answer["description"][group]) == set(answer["defaults"][group])


def test_the_general_limit_spans_the_script_addresses(make_app):
    client = make_app(rate_limit_default="3 per hour", rate_limit_segment="2 per minute").test_client()
    assert [send(client).status_code for _ in range(3)] == [200, 200, 429]
    file = {"file": (io.BytesIO(disc_png()), "d.png")}
    assert client.post("/analyze_image", data=file).status_code in (200, 429)
    file = {"file": (io.BytesIO(disc_png()), "d.png")}
    refused = client.post("/analyze_image", data=file)
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 3601  # the end of the hour, in whole seconds
    assert "3 per 1 hour" in refused.json["error"]


def test_only_a_refusal_says_when_to_come_back(make_app):
    app = make_app(queue_size=0, rate_limit_segment="10 per hour")
    client = app.test_client()
    assert "Retry-After" not in send(client).headers
    with services_of(app).engine.gate.enter():
        busy = send(client)
    # As long as the queue takes, and not as the hour in which requests are counted.
    assert (busy.status_code, int(busy.headers["Retry-After"])) == (503, 2)


@pytest.mark.parametrize("path", ["/segment", "/advanced_analysis"])
def test_a_full_queue_is_told_before_anything_is_decoded(make_app, path):
    app = make_app(queue_size=0)
    with services_of(app).engine.gate.enter():
        busy = app.test_client().post(path, json={"image": "no base64"})
    assert (busy.status_code, busy.json["code"]) == (503, "unavailable")


def test_the_pages_own_requests_are_not_limited(make_app):
    client = make_app(rate_limit_default="1 per hour", rate_limit_segment="1 per minute").test_client()
    assert {client.get("/api/images").status_code for _ in range(5)} == {200}


def test_each_key_has_its_own_budget(make_app):
    app = make_app(api_keys="key-one-of-two-keys,key-two-of-two-keys", rate_limit_segment="1 per minute")
    client = app.test_client()

    def post(key):
        data = {"file": (io.BytesIO(disc_png()), "d.png")}
        return client.post("/segment_file", data=data, headers={"X-API-Key": key}).status_code

    assert post("key-one-of-two-keys") == 200
    assert post("key-one-of-two-keys") == 429
    assert post("key-two-of-two-keys") == 200


def test_limits_hold_across_applications_on_one_data_folder(make_app):
    first, second = (make_app(rate_limit_segment="2 per minute").test_client() for _ in range(2))
    assert [send(client).status_code for client in (first, second, first, second)] == [200, 200, 429, 429]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("203.0.113.7", "203.0.113.8", 200),
        ("2001:db8:1:2::7", "2001:db8:1:2::8", 429),  # the /64 of one customer
        ("2001:db8:1:2::7", "2001:db8:1:3::7", 200),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", 200),  # by IPv4 to a server that listens on ::
        ("::ffff:203.0.113.7", "203.0.113.7", 429),
    ],
)
def test_each_address_has_its_own_budget(make_app, first, second, status):
    client = make_app(allow_public_without_keys=True, rate_limit_default="1 per hour").test_client()
    codes = []
    for address in (first, second):
        data = {"file": (io.BytesIO(disc_png()), "d.png")}
        answer = client.post("/analyze_image", data=data, environ_overrides={"REMOTE_ADDR": address})
        codes.append(answer.status_code)
    assert codes == [200, status]


def test_a_key_may_have_a_limit_of_its_own(make_app):
    app = make_app(rate_limit_default="1 per hour")
    ring = services_of(app).key_ring
    headers = {"X-API-Key": ring.create("busy", rate_limit="3 per hour")[1]}
    client = app.test_client()
    codes = []
    for _ in range(4):
        file = {"file": (io.BytesIO(disc_png()), "d.png")}
        codes.append(client.post("/analyze_image", data=file, headers=headers).status_code)
    assert codes == [200, 200, 200, 429]


ANALYSIS_RESULTS = {
    "processing_summary", "filtering_criteria", "clustering_info", "overlap_analysis", "cluster_statistics",
}  # fmt: skip
PICTURES = {
    "cluster_overview", "filtered_edge", "filtered_circularity", "filtered_distant_blob", "overlap_analysis",
}  # fmt: skip
CSV_COLUMNS = [
    "mask_id", "area", "circularity", "blob_distance", "stability_score", "bbox_x", "bbox_y", "bbox_width",
    "bbox_height", "aspect_ratio", "cluster_id", "edge_touching", "low_circularity", "distant_blob",
    "included_in_clustering", "overlap_count", "overlapping_small_mask_ids",
]  # fmt: skip


def analyse(client, data=None, **more):
    image = base64.b64encode(disc_png() if data is None else data).decode()
    return client.post("/advanced_analysis", json={"image": image, **more})


def test_advanced_analysis_has_every_documented_field(client):
    answer = analyse(client).json
    assert answer["success"] is True
    assert set(answer["analysis_results"]) == ANALYSIS_RESULTS
    assert set(answer["visualizations"]) == PICTURES
    assert set(answer["filtered_out_masks"]) == {"edge", "circularity", "distant_blob"}
    assert [list(row) for row in answer["csv_data"]] == [CSV_COLUMNS] * 5
    for url in answer["visualizations"].values():
        with PillowImage.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            assert picture.size == (200, 150)


def test_advanced_analysis_gives_a_picture_of_every_mask_unless_told_not_to(client):
    def masks(**options):
        answer = analyse(client, advanced_filters={"edge_threshold": 0}, **options).json
        groups = [*answer["clustered_masks"].values(), *answer["filtered_out_masks"].values()]
        return [mask for group in groups for mask in group]

    shown = masks()
    assert len(shown) == 5
    for mask in shown:
        with PillowImage.open(io.BytesIO(base64.b64decode(mask["image"].partition(",")[2]))) as picture:
            assert int(np.count_nonzero(np.asarray(picture))) == mask["area"]
    assert [mask["image"] for mask in masks(mask_images=False)] == [None] * 5


def test_advanced_analysis_leaves_out_what_lies_near_the_edge(client):
    answer = analyse(client, advanced_filters={"edge_threshold": 0}).json
    processing = answer["analysis_results"]["processing_summary"]
    assert (processing["total_masks"], processing["filtered_edge"], processing["masks_clustered"]) == (
        5,
        1,
        4,
    )
    (left_out,) = answer["filtered_out_masks"]["edge"]
    assert left_out["edge_stats"]["touches_edge"] is True
    rows = {row["mask_id"]: row for row in answer["csv_data"]}
    assert rows[left_out["id"]]["edge_touching"] is True
    assert rows[left_out["id"]]["included_in_clustering"] is False
    assert rows[left_out["id"]]["cluster_id"] is None
    assert answer["summary"]["n_included"] == 4
    assert sum(len(masks) for masks in answer["clustered_masks"].values()) == 4
    assert [c["count"] for c in answer["analysis_results"]["cluster_statistics"]] == [4]
    assert analyse(client, advanced_filters={"edge_threshold": 60}).json["summary"]["n_included"] == 0


def two_brightnesses() -> bytes:
    """The five discs, one of them brighter than the others."""
    pixels = disc_pixels()
    pixels[25:56, 70:110][pixels[25:56, 70:110] == 180] = 240
    return encode_png(pixels)


def test_intensity_groups_are_said_of_each_mask(client):
    png = two_brightnesses()
    masks = send(client, png, filters={"intensity_threshold": 200}).json["masks"]
    for mask in masks:
        is_bright = mask["pixel_stats"]["mean_intensity"] >= 200
        assert mask["intensity_group"] == ("high" if is_bright else "low")
    answer = send(client, png, filters={"intensity_threshold": 200, "enable_intensity_coloring": True}).json
    assert answer["filters_applied"]["enable_intensity_coloring"] is True
    assert answer["masks"] == masks
    assert {m["intensity_group"] for m in send(client, png).json["masks"]} == {None}


def test_advanced_analysis_parts_and_colours_by_intensity_where_asked(client):
    png, limits = two_brightnesses(), {"edge_threshold": 0}
    plain = analyse(client, png, advanced_filters=limits).json
    wanted = {"intensity_threshold": 200, "enable_intensity_coloring": True}
    answer = analyse(client, png, advanced_filters=limits, filters=wanted).json
    intensity = answer["analysis_results"].pop("intensity_analysis")
    n = answer["analysis_results"]["processing_summary"]["masks_clustered"]
    assert (intensity["threshold"], intensity["overall"]["count"]) == (200, n)
    assert (intensity["high_intensity"]["count"], intensity["low_intensity"]["count"]) == (1, n - 1)
    assert intensity["high_intensity"]["mean"] > 200 > intensity["low_intensity"]["mean"]
    picture = answer["visualizations"].pop("intensity_groups")
    with PillowImage.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20)}
    assert {(0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)} <= colours  # low and high
    assert answer["visualizations"] == plain["visualizations"]
    assert answer["csv_data"] == plain["csv_data"]  # colours change no number
    uncoloured = analyse(client, png, filters={"intensity_threshold": 200}).json
    assert "intensity_groups" not in uncoloured["visualizations"]
    for wrong, sentence in (
        ({"enable_intensity_coloring": True}, "needs intensity_threshold"),
        ({"intensity_threshold": "bright"}, "number"),
        ({"area_min": 5}, "Unknown name 'area_min'"),
    ):
        refused = analyse(client, png, filters=wrong)
        assert refused.status_code == 400
        assert sentence in refused.json["error"]


def test_advanced_analysis_of_a_round_disc_passes_a_strict_circularity(client):
    # In the original a perfect disc scored 0.88 to 0.90 and fell out here.
    strict = analyse(client, advanced_filters={"min_circularity": 0.95, "edge_threshold": 0}).json
    assert strict["analysis_results"]["processing_summary"]["filtered_circularity"] <= 1  # the cut one


@pytest.mark.parametrize(
    "wrong", [{"min_circularity": 2}, {"overlap_min_percentage": 0}, {"colour": 1}, {"edge_threshold": "5"}]
)
def test_advanced_analysis_refuses_impossible_filters(client, wrong):
    assert analyse(client, advanced_filters=wrong).status_code == 400


def test_download_analysis_packs_what_advanced_analysis_answered(client):
    answer = analyse(client).json
    names = ("csv_data", "analysis_results", "visualizations")
    response = client.post("/download_analysis", json={name: answer[name] for name in names})
    assert response.mimetype == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.data))
    assert set(archive.namelist()) == {
        "README.txt", "analysis.csv", "analysis_results.json", *(f"{name}.png" for name in PICTURES),
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(archive.read("analysis.csv").decode("utf-8-sig"))))
    assert [int(row["area"]) for row in rows] == [row["area"] for row in answer["csv_data"]]
    assert list(rows[0]) == CSV_COLUMNS
    assert json.loads(archive.read("analysis_results.json")) == answer["analysis_results"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"csv_data": "no"},
        {"csv_data": [{"a": {}}]},
        {"analysis_results": 1},
        {"visualizations": {"../x": "data:image/png;base64,"}},
        {"visualizations": {"x": "data:image/png;base64,AAAA"}},
        {"visualizations": {"x": "https://example.org/x.png"}},
    ],
)
def test_download_analysis_refuses_what_it_did_not_answer(client, wrong):
    body = {"csv_data": [], "analysis_results": {}} | wrong
    response = client.post("/download_analysis", json=body)
    assert response.status_code == 400
    assert response.json["error"]
