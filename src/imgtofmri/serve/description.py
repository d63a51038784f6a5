"""The OpenAPI description of the interface."""

from __future__ import annotations

from typing import Any

from imgtofmri import __version__
from imgtofmri.encoder.settings import AVERAGES
from imgtofmri.serve.jobs import STATES
from imgtofmri.serve.uploads import FILES
from imgtofmri.serve.work import Choices

Schema = dict[str, Any]

FILE_TYPES = (
    "application/gzip",
    "text/tab-separated-values",
    "application/json",
    "text/html",
)
"""Of files of results."""


def describe(choices: Choices) -> Schema:
    """Return what the interface is, as an OpenAPI 3.1 document.

    Parameters
    ----------
    choices : Choices
        What a job may ask for.
    """
    job = _get("What a job is, and how far it has come", {"200": _json("The job", _ref("Job"))})
    job["get"]["operationId"] = "getJob"
    job["delete"] = {
        "summary": "Drop a job: what was sent for it and what came of it are removed",
        "operationId": "dropJob",
        "responses": {"204": {"description": "It is gone"}, **_refused(403, 404)},
    }
    said = "Events named `job`, whose data are a Job, until it is over"
    stream: Schema = {"description": said, "content": {"text/event-stream": {}}}
    of_job = {"/jobs/{id}": job}
    of_job["/jobs/{id}/events"] = _get(
        "Progress as server-sent events; a stream ends after a while, and clients connect again",
        {"200": stream},
        429,
    )
    of_job["/jobs/{id}/rois"] = _get(
        "Means of the group's ROIs for each image", {"200": _json("Means", _ref("Rois"))}, 409
    )
    of_job["/jobs/{id}/report"] = _get(
        "The page of results", {"200": _binary("One HTML file", "text/html")}, 409
    )
    of_job["/jobs/{id}/results.zip"] = _get(
        "All files of results", {"200": _binary("A ZIP file", "application/zip")}, 409
    )
    of_job["/jobs/{id}/files/{file}"] = _get(
        "One file of results: a NIfTI volume, a table, the page, the record",
        {"200": _binary("The file", *FILE_TYPES)},
        409,
    )
    of_job["/jobs/{id}/report"]["get"]["operationId"] = "getReport"
    of_job["/jobs/{id}/rois"]["get"]["operationId"] = "getRois"
    for path, item in of_job.items():
        item["parameters"] = [_parameter("id"), *([_parameter("file")] if "{file}" in path else [])]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "imgtofmri serve",
            "version": __version__,
            "description": "Predicted fMRI responses of visual cortex to images and movies. Send "
            "files to /predict, follow the job that it answers with, and take the results.",
        },
        "paths": {
            "/predict": {"post": _predict(choices)},
            **of_job,
            "/server": _get(
                "The encoder, what can be asked of it, and the server's limits",
                {"200": _json("The server", {"type": "object"})},
            ),
            "/openapi.json": _get(
                "This description", {"200": _json("OpenAPI", {"type": "object"})}
            ),
        },
        "components": {"schemas": {"Job": _job(), "Rois": _rois(), "Problem": _PROBLEM}},
    }


def _predict(choices: Choices) -> Schema:
    roi = {"type": "string", "enum": list(choices.rois)}
    fields: Schema = {
        FILES: {
            "type": "array",
            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            "description": "Images and movies, with their names",
        },
        "rois": {"type": "array", "items": roi, "description": "All that the server uses if none"},
        "average": {"type": "string", "enum": list(AVERAGES), "default": choices.average},
        "rate_hz": {
            "type": "number",
            "minimum": 0.01,
            "maximum": choices.limits.max_rate_hz,
            "default": 2,
            "description": "Frames a second that are taken of movies",
        },
        "subjects": {
            "type": "boolean",
            "default": False,
            "description": "Write each person's map, too",
        },
    }
    schema = {
        "type": "object",
        "required": [FILES],
        "properties": fields,
        "additionalProperties": False,
    }
    accepted = _json("Accepted: a job that waits for its turn", _ref("Job"))
    accepted["headers"] = {
        "Location": {"description": "The job's address", "schema": {"type": "string"}}
    }
    accepted["links"] = {
        operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
        for operation in ("getJob", "dropJob", "getReport", "getRois")
    }
    return {
        "summary": "Predict the responses to images and movies",
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema}},
        },
        "responses": {"202": accepted, **_refused(400, 403, 408, 413, 415, 422, 429)},
    }


def _get(summary: str, answers: Schema, *refused: int) -> Schema:
    return {"get": {"summary": summary, "responses": {**answers, **_refused(403, 404, *refused)}}}


_REFUSED = {
    400: "A damaged request",
    403: "Another host's or another site's request",
    404: "There is none, or no longer",
    408: "A request that does not come",
    409: "The job has no results",
    413: "More bytes than the server takes",
    415: "Another type than multipart/form-data",
    422: "Files or fields that cannot be used",
    429: "No free place; Retry-After says when to try again",
}


def _refused(*statuses: int) -> Schema:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {str(s): {"description": _REFUSED[s], "content": content} for s in statuses}


def _parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _binary(description: str, *media_types: str) -> Schema:
    content = {
        media_type: {"schema": {"type": "string", "contentMediaType": media_type}}
        for media_type in media_types
    }
    return {"description": description, "content": content}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


_TEXT: Schema = {"type": "string"}


def _job() -> Schema:
    return _object(
        id=_TEXT,
        state={"type": "string", "enum": list(STATES)},
        position={"type": "integer", "description": "How many jobs come first"},
        doing={"type": "string", "description": "What is being done"},
        done={"type": "number"},
        total={"type": ["number", "null"]},
        unit={"type": "string", "description": "Of done and total"},
        stimuli=_list(_TEXT),
        failures=_list(_object(name=_TEXT, reason=_TEXT)),
        notes={**_list(_TEXT), "description": "What of the stimuli was left out"},
        error={"type": "string", "description": "Why it failed; empty if it did not"},
        settings={"type": "object"},
        report={"type": ["string", "null"], "description": "Address of the page of results"},
        files=_list(_object(name=_TEXT, bytes={"type": "integer"}, url=_TEXT)),
    )


def _rois() -> Schema:
    return _object(
        stimuli=_list(_TEXT),
        places=_list(_object(roi=_TEXT, hemi=_TEXT)),
        unit=_TEXT,
        group={
            "type": "array",
            "items": _list({"type": ["number", "null"]}),
            "description": "A value for each stimulus and place",
        },
    )


_PROBLEM = _object(title=_TEXT, status={"type": "integer"}, detail=_TEXT)
