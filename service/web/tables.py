"""Tables as answers: JSON, CSV or Arrow, as whoever asks wants them; and not again what did not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

import duckdb
import pyarrow as pa
from fastapi import Query, Request, Response
from fastapi.routing import APIRoute
from pyarrow import csv
from pydantic import BaseModel

from service.web.rows import json_rows
from stitchline.errors import UsageError

Form = Literal["json", "csv", "arrow"]

CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"

_ARROW: Final[dict[Any, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", "UTC"),
}

FormatParameter = Annotated[
    Form | None, Query(alias="format", description="json, csv or arrow; else what `Accept` asks for, else json.")
]

ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {CSV: {}, ARROW: {}}, "description": "The table, in the form that was asked for."},
    304: {"description": "It is what `If-None-Match` names."},
}
"""For the OpenAPI document."""


def told_as(model: Any) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: an answer of that form, or none since whoever asks has it."""
    return {200: {"model": model, "description": "The answer."}, 304: ANSWERS[304]}


def form_of(request: Request, asked: Form | None) -> Form:
    """In which form an answer is wanted."""
    if asked is not None:
        return asked
    accepted = request.headers.get("accept", "")
    return "arrow" if ARROW in accepted else "csv" if CSV in accepted else "json"


def answer_table(con: duckdb.DuckDBPyConnection, sql: str, values: object, form: Form, name: str) -> Response:
    """What `sql` answers, in that form; as JSON, one object a row. `name` is that of the file that a browser keeps."""
    table = con.execute(sql, values).to_arrow_table()
    if form == "json":
        return Response(json.dumps(json_rows(table, types_of(con))), media_type="application/json")
    return as_file(table, form, name)


def as_file(table: pa.Table, form: Literal["csv", "arrow"], name: str) -> Response:
    """`table` as a file to keep. Raises UsageError for columns that CSV cannot hold."""
    sink = pa.BufferOutputStream()
    if form == "csv":
        try:
            csv.write_csv(table, sink)
        except pa.ArrowException as error:
            raise UsageError(
                f"this cannot be told as CSV ({error}): cast it to text, or ask for Arrow or JSON"
            ) from error
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    kind, ending = (CSV, "csv") if form == "csv" else (ARROW, "arrow")
    disposition = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
    return Response(sink.getvalue().to_pybytes(), media_type=kind, headers=disposition)


def table_of(model: type[BaseModel], rows: Iterable[BaseModel]) -> pa.Table:
    """`rows`, which are of `model`, with its fields as columns; times are aware UTC, in microseconds."""
    rows = list(rows)
    columns = {}
    for name, field in model.model_fields.items():
        kind = next(_ARROW[one] for one in (get_args(field.annotation) or (field.annotation,)) if one in _ARROW)
        columns[name] = pa.array([getattr(row, name) for row in rows], kind)
    return pa.table(columns)


def types_of(con: duckdb.DuckDBPyConnection) -> list[str]:
    """DuckDB's types of the columns of the last answer."""
    return [str(column[1]) for column in con.description or ()]


def unless_known(request: Request, state: str, make: Callable[[], Response]) -> Response:
    """What `make` answers, with an ETag; or 304, and nothing is made, if the client has it already.

    `state` names all that the answer depends on besides the request.
    """
    headers = _tagged(f"{request.url.path}?{request.url.query}\n{request.headers.get('accept', '')}\n{state}".encode())
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    answer = make()
    answer.headers.update(headers)
    return answer


class TaggedRoute(APIRoute):
    """A route whose answer to GET has an ETag made of what it says, and is not sent again to a client that has it.

    For what changes with the stream: it is worked out all the same, and the way is saved.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **told: Any) -> None:
        if path.startswith("/api/") and "GET" in (told.get("methods") or ("GET",)):
            told["responses"] = {304: ANSWERS[304], **(told.get("responses") or {})}
        super().__init__(path, endpoint, **told)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if not self.path.startswith("/api/"):  # the probes, and Prometheus, which would not ask so
            return handle

        async def tagged(request: Request) -> Response:
            answer = await handle(request)
            if request.method != "GET" or answer.status_code != 200 or "etag" in answer.headers:
                return answer
            body = getattr(answer, "body", None)
            if body is None:  # a stream, of which nobody knows the end
                return answer
            headers = _tagged(answer.headers.get("content-type", "").encode() + b"\n" + bytes(body))
            if _has(request, headers["ETag"]):
                return Response(status_code=304, headers=headers)
            answer.headers.update(headers)
            return answer

        return tagged


def _tagged(said: bytes) -> dict[str, str]:
    tag = f'W/"{hashlib.sha256(said).hexdigest()[:20]}"'
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept"}


def _has(request: Request, tag: str) -> bool:
    """Whether the client says that it has what bears `tag`."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in (each.strip() for each in known.split(","))
