"""Who may come in: only this computer without keys, only keys with them, and no other web site ever."""

from __future__ import annotations

import html
import io
import re
from urllib.parse import urlsplit

import pytest
from discs import disc_png

from sam_droplet.config import load_config
from sam_droplet.errors import ConfigError
from sam_droplet.web import services_of
from sam_droplet.web.guard import check_bind_address, is_loopback

PAGE = {"X-SAM-Droplet": "1"}
ID = "0" * 32
GUARDED = [
    ("GET", "/"),
    ("GET", f"/annotate/{ID}"),
    ("GET", "/api-docs"),
    ("GET", "/api/images"),
    ("POST", "/api/images"),
    ("DELETE", f"/api/images/{ID}"),
    ("GET", f"/api/images/{ID}/view"),
    ("GET", f"/api/images/{ID}/tile"),
    ("GET", f"/api/images/{ID}/assays"),
    ("PUT", f"/api/images/{ID}/assays/ddpcr"),
    ("DELETE", f"/api/images/{ID}/assays/ddpcr"),
    ("GET", f"/api/images/{ID}/report"),
    ("POST", f"/api/images/{ID}/pages/1"),
    ("GET", "/api/objectives"),
    ("POST", "/api/objectives"),
    ("DELETE", "/api/objectives?name=20x"),
    ("GET", f"/api/images/{ID}/presets"),
    ("GET", f"/api/images/{ID}/share"),
    ("POST", f"/api/images/{ID}/share"),
    ("DELETE", f"/api/images/{ID}/share"),
    ("GET", f"/api/images/{ID}/annotation"),
    ("PATCH", f"/api/images/{ID}/annotation"),
    ("POST", f"/api/images/{ID}/find"),
    ("POST", f"/api/images/{ID}/predict"),
    ("POST", f"/api/images/{ID}/droplets"),
    ("POST", f"/api/images/{ID}/redraw"),
    ("GET", f"/api/images/{ID}/proposals"),
    ("GET", f"/api/images/{ID}/export/csv"),
    ("GET", f"/api/images/{ID}/outlined"),
    ("GET", "/batch"),
    ("GET", f"/batch/{ID}"),
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs"),
    ("GET", f"/api/jobs/{ID}"),
    ("POST", f"/api/jobs/{ID}/cancel"),
    ("POST", f"/api/jobs/{ID}/retry"),
    ("GET", f"/api/jobs/{ID}/events"),
    ("GET", f"/api/jobs/{ID}/export/csv"),
    ("GET", "/api/samples"),
    ("POST", "/api/samples/emulsion"),
    ("GET", "/api/samples/emulsion/thumbnail"),
    ("GET", "/api/models"),
    ("POST", "/segment"),
    ("POST", "/segment_file"),
    ("POST", "/analyze_image"),
    ("POST", "/advanced_analysis"),
    ("POST", "/download_analysis"),
    ("GET", "/defaults"),
    ("GET", "/admin/stats"),
    ("GET", "/admin/health"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing-here"),
]
OPEN = {"static", "ops.health", "ops.livez", "ops.readyz", "pages.login", "pages.log_in", "pages.log_out"}
# These check the secret of the link instead; see test_shared.py.
OPEN |= {f"shared.{name}" for name in ("page", "annotation", "assays", "report", "view", "tile", "export")}


@pytest.fixture
def keys(app):
    """Make two users' keys and an administrator's; from now on the application needs them."""
    ring = services_of(app).key_ring
    return {
        name: ring.create(name, scope=scope)[1]
        for name, scope in (("ada", "user"), ("bob", "user"), ("root", "admin"))
    }


def test_every_route_is_guarded_or_known_to_be_open(app):
    adapter = app.url_map.bind("localhost")
    known = [(method, urlsplit(path).path) for method, path in GUARDED if "nothing" not in path]
    guarded = {adapter.match(path, method=method)[0] for method, path in known}
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert routes - guarded == OPEN


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_needs_a_key(client, keys, method, path):
    response = client.open(path, method=method, headers=PAGE)
    if path in ("/", "/api-docs") or path.startswith(("/annotate", "/batch")):
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/login")
    else:
        assert (response.status_code, response.json["code"]) == (401, "authentication_required")
        assert "WWW-Authenticate" in response.headers
    wrong = client.open(path, method=method, headers=PAGE | {"X-API-Key": "sd_abc_def"})
    assert wrong.status_code in (302, 401)


@pytest.mark.parametrize("header", [{"X-API-Key": "{}"}, {"Authorization": "Bearer {}"}])
def test_a_key_opens(client, keys, header):
    headers = {name: value.format(keys["ada"]) for name, value in header.items()}
    assert client.get("/api/images", headers=headers).json["images"] == []
    # A key in a header is proof enough against other web sites.
    posted = client.post("/api/samples/emulsion", headers=headers)
    assert posted.status_code == 201


@pytest.mark.parametrize("bad", ["", "sd", "sd_", "sd__", "x_1_2", "sd_é_ü", "sd_" + "9" * 5000, "sd_a_b_c"])
def test_a_malformed_key_is_401(client, keys, bad):
    headers = {"X-API-Key": bad.encode("utf-8").decode("latin-1")}
    assert client.get("/api/images", headers=headers).status_code == 401


def test_a_revoked_key_closes_at_once_and_the_server_stays_closed(app, client, keys):
    ring = services_of(app).key_ring
    assert client.get("/api/images", headers={"X-API-Key": keys["ada"]}).status_code == 200
    for record in ring.list():
        ring.revoke(record.id)
    response = client.get("/api/images", headers={"X-API-Key": keys["ada"]})
    assert (response.status_code, "revoked" in response.json["error"]) == (401, True)
    assert client.get("/api/images").status_code == 401


def test_an_expired_key_is_told(app, client):
    _, key = services_of(app).key_ring.create("short", expires_in_s=-1)
    response = client.get("/api/images", headers={"X-API-Key": key})
    assert (response.status_code, "expired" in response.json["error"]) == (401, True)


def test_secrets_are_not_kept(app, keys, tmp_path):
    secrets = [key.split("_", 2)[2] for key in keys.values()]
    services_of(app).store.close()
    for path in (tmp_path / "data").glob("sam_droplet.sqlite3*"):
        content = path.read_bytes()
        assert all(secret.encode() not in content for secret in secrets)


def test_another_keys_image_is_404_everywhere(client, keys):
    ada, bob = ({"X-API-Key": keys[name]} for name in ("ada", "bob"))
    data = {"file": (io.BytesIO(disc_png()), "d.png")}
    image_id = client.post("/api/images", data=data, headers=ada).json["images"][0]["id"]
    bodies = {
        "PATCH annotation": {"delete": [1]},
        "POST predict": {"box": [1, 1, 9, 9]},
        "POST droplets": {"contour": [[1, 1], [9, 1], [9, 9]]},
        "POST redraw": {"contours": [[[1, 1], [9, 1], [9, 9]]], "replaces": []},
    }
    for method, path in GUARDED:
        if ID in path:
            body = bodies.get(f"{method} {path.rsplit('/', 1)[1]}", None if method == "GET" else {})
            response = client.open(path.replace(ID, image_id), method=method, headers=bob, json=body)
            assert response.status_code == 404, path
    assert client.get("/api/images", headers=bob).json["images"] == []
    assert client.get(f"/api/images/{image_id}/annotation", headers=ada).status_code == 200


def test_static_keys_of_the_settings_work_and_stay_apart(make_app):
    app = make_app(api_keys="first-key-of-the-lab,second-key-of-the-lab", admin_key="the-admin-key")
    client = app.test_client()
    assert client.get("/api/images").status_code == 401
    first, second = ({"X-API-Key": f"{n}-key-of-the-lab"} for n in ("first", "second"))
    client.post("/api/samples/emulsion", headers=first)
    assert len(client.get("/api/images", headers=first).json["images"]) == 1
    assert client.get("/api/images", headers=second).json["images"] == []
    assert client.get("/admin/stats", headers=first).status_code == 403
    assert client.get("/admin/stats", headers={"X-Admin-Key": "the-admin-key"}).status_code == 200


def test_admin_pages_are_for_administrators(client, keys):
    for path in ("/admin/stats", "/admin/health", "/metrics"):
        user = client.get(path, headers={"X-API-Key": keys["ada"]})
        assert (user.status_code, user.json["code"]) == (403, "permission_denied")
        assert client.get(path, headers={"X-Admin-Key": keys["root"]}).status_code == 200
    stats = client.get("/admin/stats", headers={"X-API-Key": keys["root"]}).json
    by_name = {key["name"]: key for key in stats["keys"]}
    assert set(by_name) == {"ada", "bob", "root"}
    assert by_name["ada"]["n_requests"] == 3


def test_login_by_key_and_logout(client, keys):
    form = client.get("/login?next=/annotate/5")
    assert form.status_code == 200
    assert 'name="key"' in form.text
    failed = client.post("/login", data={"key": "sd_wrong_key", "next": "/"})
    assert (failed.status_code, "not valid" in failed.text) == (401, True)
    done = client.post("/login", data={"key": f" {keys['ada']} ", "next": "/annotate/5"})
    assert (done.status_code, done.headers["Location"]) == (302, "/annotate/5")
    cookie = done.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert keys["ada"].split("_", 2)[2] not in cookie
    assert client.get("/").status_code == 200
    # The cookie alone is no proof that our own page asks.
    assert client.post("/api/samples/emulsion").status_code == 403
    assert client.post("/api/samples/emulsion", headers=PAGE).status_code == 201
    assert client.post("/logout").status_code == 302
    assert client.get("/").status_code == 302


def test_only_pages_renew_a_login(client, keys):
    client.post("/login", data={"key": keys["ada"]})
    assert "Set-Cookie" in client.get("/").headers
    # Such an answer may arrive after a logging out.
    for path in ("/api/images", "/static/theme.js", "/health"):
        with client.get(path) as answer:
            assert "Set-Cookie" not in answer.headers, path


def test_login_leads_back_with_the_query(client, keys):
    for path in ("/api-docs?image=abc&x=%C3%A9", "/api-docs?image=//evil.example", "/api-docs"):
        asked = client.get(path)
        assert asked.status_code == 302
        form = client.get(asked.headers["Location"])
        target = re.search('name="next" value="([^"]*)"', form.text)
        done = client.post("/login", data={"key": keys["ada"], "next": html.unescape(target[1])})
        assert done.headers["Location"] == path
        client.post("/logout")
    assert client.get("/api-docs", environ_overrides={"QUERY_STRING": "image=\xff"}).status_code == 302


def test_login_leads_back_below_the_prefix_of_a_proxy(make_app):
    app = make_app(trusted_proxies=1)
    _, key = services_of(app).key_ring.create("ada")
    client, proxied = app.test_client(), {"X-Forwarded-Prefix": "/lab"}
    asked = client.get("/annotate/5", headers=proxied)
    assert asked.headers["Location"] == "/lab/login?next=/annotate/5"
    for given, target in (("/annotate/5", "/lab/annotate/5"), ("//evil.example", "/lab/")):
        done = client.post("/login", data={"key": key, "next": given}, headers=proxied)
        assert done.headers["Location"] == target


def test_the_login_cookie_is_secure_behind_https(make_app):
    app = make_app(trusted_proxies=1)
    _, key = services_of(app).key_ring.create("ada")
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "lab.example"}
    done = app.test_client().post("/login", data={"key": key}, headers=headers)
    assert "Secure" in done.headers["Set-Cookie"]


def test_a_login_ends_with_its_key(app, client, keys):
    client.post("/login", data={"key": keys["ada"]})
    ring = services_of(app).key_ring
    ring.revoke(keys["ada"].split("_")[1])
    assert client.get("/api/images").status_code == 401


def test_a_login_ends_when_its_key_gets_a_new_secret(app, client, keys):
    """Whoever logged in with a key that leaked must not stay."""
    client.post("/login", data={"key": keys["ada"]})
    assert client.get("/api/images").status_code == 200
    _, renewed = services_of(app).key_ring.renew(keys["ada"].split("_")[1])
    answer = client.get("/api/images")
    assert (answer.status_code, "logged out" in answer.json["error"]) == (401, True)
    client.post("/login", data={"key": renewed})
    assert client.get("/api/images").status_code == 200


def test_a_login_by_a_key_of_the_settings_lasts(make_app):
    client = make_app(api_keys="one-long-key").test_client()
    client.post("/login", data={"key": "one-long-key"})
    assert client.get("/api/images").status_code == 200


def test_scripts_cannot_use_a_login(client, keys):
    client.post("/login", data={"key": keys["ada"]})
    data = {"file": (io.BytesIO(disc_png()), "d.png")}
    assert client.post("/segment_file", data=data, headers=PAGE).status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:x", "http://[", "?x"]
)
def test_login_never_leads_elsewhere(client, keys, target):
    done = client.post("/login", data={"key": keys["ada"], "next": target})
    assert done.headers["Location"] == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "192.168.1.5:5000", "localhost.evil.example", "127.0.0.1.nip.io"]
)
def test_without_keys_only_this_computers_names_are_answered(client, host):
    response = client.get("/api/images", headers={"Host": host})
    assert (response.status_code, response.json["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("host", ["localhost:9487", "127.0.0.1:5000", "[::1]:5000", "LOCALHOST"])
def test_this_computers_names_are_answered(client, host):
    assert client.get("/api/images", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("address", ["192.168.1.7", "203.0.113.9", "2001:db8::1", ""])
def test_without_keys_only_this_computers_address_is_answered(client, address):
    response = client.get("/api/images", environ_overrides={"REMOTE_ADDR": address})
    assert (response.status_code, response.json["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"])
def test_without_keys_nobody_comes_in_through_a_proxy_by_claiming_to_be_local(client, name):
    response = client.get("/api/images", headers={"Host": "localhost", name: "127.0.0.1"})
    assert (response.status_code, response.json["code"]) == (403, "permission_denied")


def test_a_public_server_without_keys_answers_only_if_told_so(make_app):
    client = make_app(allow_public_without_keys=True).test_client()
    assert client.get("/api/images", headers={"Host": "lab.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
@pytest.mark.parametrize("path", ["/segment_file", "/api/images", "/login", "/api/samples/emulsion"])
def test_writes_from_other_sites_are_refused(client, headers, path):
    response = client.post(path, headers=headers | PAGE)
    assert response.status_code == 403


def test_writes_need_the_header_of_the_page(client):
    response = client.post("/api/samples/emulsion")
    assert (response.status_code, "X-SAM-Droplet" in response.json["error"]) == (403, True)


def test_our_own_page_is_let_in(client):
    own = PAGE | {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert client.post("/api/samples/emulsion", headers=own).status_code == 201


@pytest.mark.parametrize("path", ["/", "/api/images", "/health", "/static/style.css", "/nothing"])
def test_every_response_carries_the_security_headers(client, path):
    with client.get(path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval'" not in policy.replace("wasm-unsafe-eval'", "")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])


def test_json_is_never_stored_by_the_browser(client, image_id):
    for path in ("/api/images", f"/api/images/{image_id}/annotation", f"/api/images/{image_id}/export/csv"):
        assert client.get(path).headers["Cache-Control"] == "no-store"


def test_a_request_id_is_taken_over_if_it_is_harmless(client):
    assert client.get("/livez", headers={"X-Request-ID": "abc123"}).headers["X-Request-ID"] == "abc123"
    assert client.get("/livez", headers={"X-Request-ID": 'a"b'}).headers["X-Request-ID"] != 'a"b'


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("lab.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected


def test_a_public_address_without_keys_is_refused_at_start(app):
    services = services_of(app)
    with pytest.raises(ConfigError, match="sam-droplet key create"):
        check_bind_address("0.0.0.0", services.config, services.key_ring)
    check_bind_address("127.0.0.1", services.config, services.key_ring)
    told = load_config({}, {"allow_public_without_keys": True})
    check_bind_address("0.0.0.0", told, services.key_ring)
    services.key_ring.create("ada")
    check_bind_address("0.0.0.0", services.config, services.key_ring)
