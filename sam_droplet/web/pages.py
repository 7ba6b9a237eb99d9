"""The pages that people see; each is complete without a script having run."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from sam_droplet.errors import AuthenticationError
from sam_droplet.imaging.formats import too_many_bytes_text
from sam_droplet.imaging.rim_offset import MOST_RIM_OFFSET_PX
from sam_droplet.service.jobs import MAX_ITEMS
from sam_droplet.web.api import sample_list
from sam_droplet.web.guard import SESSION_MARK, SESSION_OWNER
from sam_droplet.web.job_presenters import items_json, job_json
from sam_droplet.web.openapi import openapi_description
from sam_droplet.web.presenters import image_info
from sam_droplet.web.services import caller, services
from sam_droplet.web.snippets import Settings, settings_of, snippets

blueprint = Blueprint("pages", __name__)

SHOWN_JOBS = 10


@blueprint.get("/")
def home() -> ResponseReturnValue:
    """Show where images come in, the caller's images and the samples."""
    images = [image_info(record) for record in services().workbench.list_images(caller().owner)]
    n_images, _ = services().store.usage(caller().owner)
    return render_template("home.html", images=images, n_images=n_images, samples=sample_list())


@blueprint.app_context_processor
def upload_limit() -> dict[str, Any]:
    """Tell every page how large a file may be, and what to say of a larger one; "#" stands for its MiB."""
    most = services().config.max_upload_bytes
    return {"most_bytes": most, "too_large_text": too_many_bytes_text(most, "#")}


@blueprint.get("/annotate/<image_id>")
def annotate(image_id: str) -> ResponseReturnValue:
    """Show one image to find, click, correct and save its droplets."""
    image = image_info(services().store.image(caller().owner, image_id))
    return render_template(
        "annotate.html",
        image=image,
        exports=services().analyst.export_names(),
        most_rim_offset_px=f"{MOST_RIM_OFFSET_PX:g}",
    )


@blueprint.get("/api-docs")
def api_docs() -> ResponseReturnValue:
    """Show the API to people, with commands to copy that hold the settings of an image: the last used one."""
    needs_key, owner = services().key_ring.any_exist(), caller().owner
    asked = request.args.get("image") or next((r.id for r in services().store.images(owner, limit=1)), None)
    settings = settings_of(services().store.annotation(owner, asked)) if asked else Settings()
    return render_template(
        "api.html",
        document=openapi_description(),
        needs_key=needs_key,
        settings=settings,
        snippets=snippets(request.url_root, settings, needs_key=needs_key),
    )


@blueprint.get("/batch")
def batch() -> ResponseReturnValue:
    """Choose images and the settings that all of them get."""
    owner = caller().owner
    images = [image_info(record) for record in services().store.images(owner, limit=MAX_ITEMS)]
    # A search that takes long on an image's own page is a job, too, but no batch.
    jobs = [job_json(job) for job in services().jobs.queue.jobs(owner, kind="batch", limit=SHOWN_JOBS)]
    return render_template(
        "batch.html", images=images, jobs=jobs, most_rim_offset_px=f"{MOST_RIM_OFFSET_PX:g}"
    )


@blueprint.get("/batch/<job_id>")
def batch_job(job_id: str) -> ResponseReturnValue:
    """Show how a job goes and what it gave."""
    owner = caller().owner
    job, items = services().jobs.queue.job_with_items(owner, job_id)
    rows = items_json(services().jobs.results, owner, items)
    return render_template("batch_job.html", job=job_json(job), items=rows)


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    """Ask for a key."""
    return render_template("login.html", next=_own_path(request.args.get("next")), message=None)


@blueprint.post("/login")
def log_in() -> ResponseReturnValue:
    """Exchange a key for a signed cookie that names its owner."""
    target = _own_path(request.form.get("next"))
    try:
        known = services().key_ring.authenticate(request.form.get("key", "").strip())
    except AuthenticationError as error:
        return render_template("login.html", next=target, message=error.message), 401
    session.clear()
    session[SESSION_OWNER] = known.owner
    session[SESSION_MARK] = services().key_ring.login_mark(known.owner)
    session.permanent = True
    return redirect(request.script_root + target)


@blueprint.post("/logout")
def log_out() -> ResponseReturnValue:
    """Forget the key in this browser."""
    session.clear()
    return redirect(url_for("pages.login"))


def _own_path(given: str | None) -> str:
    """Return a path of this application, so that a link to the login page cannot lead elsewhere."""
    try:
        parts = urlsplit(given or "")
    except ValueError:  # such as http://[
        return "/"
    own = parts.path.startswith("/") and not parts.path.startswith(("//", "/\\")) and not parts.netloc
    return parts._replace(fragment="").geturl() if own and not parts.scheme else "/"
