"""waitress with its own refusals in the one shape of all errors: a script reads them like any other."""

from __future__ import annotations

import json
from typing import Any

import waitress  # type: ignore[import-untyped]
from flask import Flask
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]

from sam_droplet.config import Config
from sam_droplet.errors import ConfigError
from sam_droplet.web.responses import too_large_text

CODES = {413: "too_large"}


def make_waitress_server(app: Flask, host: str, port: int, config: Config, options: dict[str, object]) -> Any:
    """Return a server that listens; its ``run`` serves until it is told to stop.

    Raises ConfigError where the port is taken or not allowed.
    """

    class JsonErrorTask(ErrorTask):  # type: ignore[misc]
        """Answer a request that never reaches the application."""

        def execute(self) -> None:
            error = self.request.error
            message = f"The request could not be read: {error.body}."
            if error.code == 413:
                message = too_large_text(config.max_upload_mb)
            code = CODES.get(error.code, "bad_input" if error.code < 500 else "internal_error")
            answer = {"success": False, "error": message, "code": code, "status": error.code}
            body = json.dumps(answer).encode()
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class JsonErrorChannel(HTTPChannel):  # type: ignore[misc]
        error_task_class = JsonErrorTask

    dispatchers: dict[int, Any] = {}
    try:
        server = waitress.create_server(app, map=dispatchers, host=host, port=port, **options)
    except (OSError, ValueError) as error:  # taken or not allowed, or no such host
        for dispatcher in [d for d in dispatchers.values() if isinstance(d, BaseWSGIServer)]:
            dispatcher.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"port {port} of {host} cannot be listened on ({reason}). If another program uses it, perhaps a "
            "SAM Droplet that runs already, stop that one or choose another port: FLASK_PORT for "
            "`python app.py`, PORT for the other servers."
        ) from error
    # A name such as localhost has several addresses, each with a listening server of its own.
    for dispatcher in dispatchers.values():
        if isinstance(dispatcher, BaseWSGIServer):
            dispatcher.channel_class = JsonErrorChannel
    return server
