"""The exception tree. Each class carries the HTTP status that every door answers with.

SamDropletError            500  something of ours broke
├── InputError             400  the caller's fault: says what was expected, what came, what to do
│   ├── AuthenticationError 401 a key is missing or wrong
│   ├── PermissionDenied   403  the key may not do this
│   ├── NotFound           404  no such image, droplet or page
│   ├── Conflict           409  the thing changed meanwhile
│   ├── PayloadTooLarge    413  over a byte or pixel limit
│   ├── UnsupportedMedia   415  not an image type that we read
│   ├── UnreadableImage    422  the right type, but damaged
│   └── TooManyRequests    429  over a quota
├── Unavailable            503  busy, starting or out of a resource; try again
│   ├── ModelUnavailable   503  the weights that this request needs are not here
│   └── OutOfMemory        503  this image needs more memory than is free
└── ConfigError            500  a setting is wrong; raised at start only
"""

from __future__ import annotations

from typing import Any, ClassVar


class SamDropletError(Exception):
    """Something of ours broke."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def as_dict(self) -> dict[str, Any]:
        """Return the one error body that every door sends."""
        return {"success": False, "error": self.message, "code": self.code, "status": self.status}


class InputError(SamDropletError):
    """The caller's fault: the message says what was expected, what came and what to do."""

    status = 400
    code = "bad_input"


class AuthenticationError(InputError):
    """A key is missing or wrong."""

    status = 401
    code = "authentication_required"


class PermissionDenied(InputError):
    """The key is known but may not do this."""

    status = 403
    code = "permission_denied"


class NotFound(InputError):
    """No such image, droplet or page, or it belongs to somebody else."""

    status = 404
    code = "not_found"


class Conflict(InputError):
    """The thing changed since the caller last read it."""

    status = 409
    code = "conflict"


class PayloadTooLarge(InputError):
    """Over a byte or pixel limit."""

    status = 413
    code = "too_large"


class UnsupportedMedia(InputError):
    """Not an image type that we read."""

    status = 415
    code = "unsupported_type"


class UnreadableImage(InputError):
    """The right type, but truncated or damaged."""

    status = 422
    code = "unreadable_image"


class TooManyRequests(InputError):
    """Over a quota; ``retry_after_s`` says when to come back."""

    status = 429
    code = "too_many_requests"


class Unavailable(SamDropletError):
    """Busy, starting or out of a resource; ``retry_after_s`` says when to come back."""

    status = 503
    code = "unavailable"


class ModelUnavailable(Unavailable):
    """The weights that this request needs are not on this machine."""

    code = "model_unavailable"


class OutOfMemory(Unavailable):
    """This image needs more memory than the processor or the graphics card has free."""

    code = "out_of_memory"


class ConfigError(SamDropletError):
    """A setting is wrong; raised at start, with the sentence that names it."""

    code = "bad_setting"
