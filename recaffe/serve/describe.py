"""What /openapi.json says beyond what the code says by itself."""

from __future__ import annotations

from typing import Any

DESCRIPTION = (
    "Classifies pictures by one model. No password, no cookies; pictures are kept nowhere. Every error "
    'is `{"error": "one sentence"}`.'
)
_ERROR = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string", "description": "what is wrong"}},
        }
    }
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "One sentence about what is wrong", "content": _ERROR}
}
_P = {"type": "number", "minimum": 0, "maximum": 1}
_PICTURE = {
    "type": "object",
    "required": ["name"],
    "description": "A picture's answer; of one that can't be read only `name` and `error`",
    "properties": {
        "name": {"type": "string", "description": "the file's name"},
        "predicted": {"type": "string", "description": "the likeliest class"},
        "confidence": {**_P, "description": "its probability"},
        "unsure": {"type": "boolean", "description": "whether that is below `threshold`"},
        "top": {
            "type": "array",
            "description": "the likeliest classes, best first",
            "items": {
                "type": "object",
                "properties": {"class": {"type": "string"}, "p": _P},
            },
        },
        "heat_map": {
            "type": "string",
            "description": "on request: what the net saw, bright where it speaks for the class; a PNG "
            "as a data: URL",
        },
        "error": {"type": "string", "description": "why there is no answer"},
    },
}


def _answer(description: str, properties: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {200: {"description": description, "content": {"application/json": {"schema": schema}}}}


HEALTH = _answer(
    "It answers",
    {
        "status": {"type": "string", "enum": ["ok"]},
        "pictures": {"type": "integer", "description": "that wait or are worked on"},
        "room": {"type": "integer", "description": "how many that may be"},
    },
)
MODEL = _answer(
    "Of the model's model.json, and what this server adds",
    {
        "labels": {"type": "array", "items": {"type": "string"}},
        "preprocessing": {"type": "object"},
        "threshold": _P,
        "heat_maps": {"type": "boolean", "description": "whether the net can give them"},
        "limits": {
            "type": "object",
            "description": "of a request: bytes, pictures, and pixels of each",
            "properties": {x: {"type": "integer"} for x in ("bytes", "pictures", "pixels")},
        },
    },
)
_WHEN = {
    408: "The request took too long to arrive",
    413: "Too many bytes, pictures or pixels",
    415: "Not a form with files",
    422: "No picture, one that can't be read, or a wrong parameter",
    429: "Too many requests; Retry-After says when to come again",
    503: "Too many pictures are waiting; Retry-After says when to come again",
}
PREDICT: dict[str, Any] = {
    "responses": {
        **_answer("An answer for each file, in their order", {"results": {"type": "array", "items": _PICTURE}}),
        **{status: {"description": said, "content": _ERROR} for status, said in _WHEN.items()},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["files"],
                        "properties": {
                            "files": {
                                "type": "array",
                                "description": "pictures, one a part; parts of other names that hold files count as well",
                                "items": {"type": "string", "format": "binary"},
                            }
                        },
                    }
                }
            },
        }
    },
}  # fmt: skip
