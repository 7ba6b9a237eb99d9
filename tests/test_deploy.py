"""The files in deploy/ are complete, are accepted by the programs that read them, and hold no secret."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sam_droplet.config import SETTINGS, load_config
from sam_droplet.web.meter import Metrics
from sam_droplet.web.serving import request_threads

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def env_example() -> str:
    """Return what deploy/env.example must hold; ``python tests/test_deploy.py`` writes it."""
    lines = [
        "# Every setting of SAM Droplet. Copy to .env in the folder it starts in, or to /etc/sam-droplet/env"
        " for the service.",
        "# A line that is commented out shows the default. Secrets have no default: make your own.",
    ]
    for setting in SETTINGS:
        default = "" if setting.default in (None, ()) else str(setting.default)
        if isinstance(setting.default, bool):
            default = default.lower()
        elif isinstance(setting.default, float):
            default = f"{setting.default:g}"
        lines += ["", f"# {setting.help} ({setting.kind.expected})", f"#{setting.name}={default}"]
    return "\n".join(lines) + "\n"


def test_env_example_names_every_setting_and_shows_its_default():
    text = (DEPLOY / "env.example").read_text()
    assert text == env_example(), "run `python tests/test_deploy.py` to write it anew"
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert load_config(shown) == load_config({})
    assert all(shown[setting.name] == "" for setting in SETTINGS if setting.secret)
    assert not re.search(r"^[A-Z]", text, re.MULTILINE), "nothing is set by copying the file"


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
@pytest.mark.parametrize("name", ["nginx.conf", "nginx.compose.conf"])
def test_nginx_accepts_its_configuration(name, tmp_path):
    (tmp_path / "site.conf").write_text(_site(name, tmp_path))
    done = _nginx_test(tmp_path, "site.conf")
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_the_guide_makes_room_for_our_site_on_debian(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/sam-droplet.conf").write_text(_site("nginx.conf", tmp_path))
    default = tmp_path / "sites-enabled/default"
    default.parent.mkdir()
    default.write_text(
        "server { listen 80 default_server; listen [::]:80 default_server; root /var/www/html; }"
    )
    included = "conf.d/*.conf", "sites-enabled/*"
    assert "duplicate default server" in _nginx_test(tmp_path, *included).stderr
    for path in re.findall(r"^    rm -f /etc/nginx/(\S+)", (DEPLOY / "README.md").read_text(), re.MULTILINE):
        (tmp_path / path).unlink()
    done = _nginx_test(tmp_path, *included)
    assert done.returncode == 0, done.stderr


def _site(name: str, folder: Path) -> str:
    """Return a configuration of ours with a certificate and an upstream that there are."""
    certificate, key = folder / "c.pem", folder / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=droplets.example.org",
         "-keyout", key, "-out", certificate, "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    site = (DEPLOY / name).read_text()
    site = site.replace("/etc/ssl/certs/sam-droplet.pem", str(certificate))
    return site.replace("/etc/ssl/private/sam-droplet.key", str(key)).replace("app:5000", "127.0.0.1:5000")


def _nginx_test(folder: Path, *included: str) -> subprocess.CompletedProcess[str]:
    (folder / "snippets").mkdir(exist_ok=True)
    shutil.copy(DEPLOY / "nginx.shared.conf", folder / "snippets/sam-droplet.conf")
    includes = " ".join(f"include {folder}/{pattern};" for pattern in included)
    main = f"pid {folder}/pid; error_log stderr; events {{}} http {{ {includes} }}"
    (folder / "nginx.conf").write_text(main)
    return subprocess.run(
        ["nginx", "-t", "-p", folder, "-c", folder / "nginx.conf"], capture_output=True, text=True
    )


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_service(tmp_path):
    unit = (DEPLOY / "sam-droplet.service").read_text()
    program = "/opt/sam-droplet/.venv/bin/gunicorn"
    assert program in unit
    copy = tmp_path / "sam-droplet.service"
    copy.write_text(unit.replace(program, "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    own = [line for line in done.stderr.splitlines() if "sam-droplet" in line]
    assert (done.returncode, own) == (0, [])


def test_the_service_is_sandboxed_and_restarts():
    unit = (DEPLOY / "sam-droplet.service").read_text()
    for line in (
        "Type=notify", "Restart=on-failure", "NoNewPrivileges=true", "ProtectSystem=strict",
        "ProtectHome=true", "CapabilityBoundingSet=", "User=sam-droplet",
    ):  # fmt: skip
        assert f"\n{line}\n" in unit


def test_the_dockerfile_copies_what_exists_and_runs_as_nobody_special():
    text = (ROOT / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    run_stage = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER \d+:\d+$", run_stage, re.MULTILINE)
    assert "HEALTHCHECK" in run_stage
    assert "latest" not in text
    assert not re.search(r"(?i)(api_keys?|admin_key|secret_key)\s*=", text)


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/runpod/Dockerfile"])
def test_the_dockerfiles_are_clean_to_a_linter(path):
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint is not installed; it comes with the development tools")
    done = subprocess.run([program, ROOT / path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_the_server_runs_is_pinned():
    direct, constraints = _requirements("requirements_server.txt"), _requirements("constraints.txt")
    assert all(str(r.specifier).startswith("==") for r in direct + constraints)
    left, seen = direct, set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        with suppress(PackageNotFoundError):
            left += [Requirement(line) for line in distribution(name).requires or []]
    pinned = {canonicalize_name(r.name) for r in _requirements("requirements_server.txt") + constraints}
    parts_of_torch = {name for name in seen if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert seen - pinned - parts_of_torch <= {"setuptools"}


def test_windows_is_asked_for_nothing_that_has_no_build_for_it():
    windows = {"sys_platform": "win32", "platform_machine": "AMD64"}
    wanted = {
        r.name for r in _requirements("requirements_server.txt") if not r.marker or r.marker.evaluate(windows)
    }
    assert not wanted & {"gunicorn", "pylibmagic"}
    assert {"torch", "waitress", "openvino", "python-magic"} <= wanted


def _requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_image_gets_neither_secrets_nor_data():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".git", "data", ".venv"} <= set(ignored)


def test_compose_keeps_everything_inside_but_nginx():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"nginx"}
    assert services["app"]["cap_drop"] == ["ALL"]
    known = {setting.name for setting in SETTINGS}
    assert set(services["app"]["environment"]) <= known


def test_cloud_files_name_settings_that_exist_and_no_secret():
    yaml = pytest.importorskip("yaml")
    known = {setting.name for setting in SETTINGS}
    task = json.loads((DEPLOY / "cloud" / "aws-ecs-task.json").read_text())["containerDefinitions"][0]
    run = yaml.safe_load((DEPLOY / "cloud" / "cloud-run.yaml").read_text())
    azure = yaml.safe_load((DEPLOY / "cloud" / "azure-container.yaml").read_text())
    variables = [*task["environment"], *run["spec"]["template"]["spec"]["containers"][0]["env"]]
    variables += azure["properties"]["containers"][0]["properties"]["environmentVariables"]
    assert {variable["name"] for variable in variables} <= known
    assert all(variable.get("secureValue", "") == "" for variable in variables)
    secret_names = {setting.name for setting in SETTINGS if setting.secret}
    assert all("value" not in variable for variable in variables if variable["name"] in secret_names)


def test_the_dashboard_asks_for_numbers_that_there_are():
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"samdroplet_\w+", target["expr"])
    }
    there = {family.name for family in Metrics().registry.collect()}
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} <= there
    assert len(asked) >= 8


def test_uwsgi_loads_the_network_after_the_fork():
    text = (DEPLOY / "uwsgi.ini").read_text()
    assert "lazy-apps = true" in text
    assert "preload" not in text
    assert f"\nthreads = {request_threads(load_config({}))}\n" in text


if __name__ == "__main__":
    (DEPLOY / "env.example").write_text(env_example())
