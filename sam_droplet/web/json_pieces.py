"""JSON of long answers, encoded piece by piece so that no other request waits for the interpreter lock."""

from __future__ import annotations

from typing import Any

from flask.json.provider import DefaultJSONProvider


class PiecewiseJson(DefaultJSONProvider):
    """Write the same text as Flask does, the members of an object and the items of its lists one by one.

    The encoder holds the lock for as long as one call takes: a third of a second for the masks of a large
    image, in which not even /health was answered.
    """

    sort_keys = False
    ensure_ascii = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return the JSON text of a value."""
        if not isinstance(obj, dict) or kwargs.get("indent") is not None:
            return super().dumps(obj, **kwargs)
        comma, colon = kwargs.get("separators") or (", ", ": ")
        encode = super().dumps
        members = []
        for name, value in obj.items():
            if isinstance(value, list):
                text = "[" + comma.join([encode(item, **kwargs) for item in value]) + "]"
            else:
                text = encode(value, **kwargs)
            members.append(encode(name, **kwargs) + colon + text)
        return "{" + comma.join(members) + "}"
