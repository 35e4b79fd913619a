"""Tables as answers: JSON, CSV or Arrow, as whoever asks wants them; and not again what did not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import duckdb
import pyarrow as pa
from fastapi import Query, Request, Response
from pyarrow import csv

from service.web.rows import json_rows

Form = Literal["json", "csv", "arrow"]

CSV: Final = "text/csv"
ARROW: Final = "application/vnd.apache.arrow.stream"

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
    """`table` as a file to keep."""
    sink = pa.BufferOutputStream()
    if form == "csv":
        csv.write_csv(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    kind, ending = (CSV, "csv") if form == "csv" else (ARROW, "arrow")
    disposition = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
    return Response(sink.getvalue().to_pybytes(), media_type=kind, headers=disposition)


def types_of(con: duckdb.DuckDBPyConnection) -> list[str]:
    """DuckDB's types of the columns of the last answer."""
    return [str(column[1]) for column in con.description or ()]


def unless_known(request: Request, state: str, make: Callable[[], Response]) -> Response:
    """What `make` answers, with an ETag; or 304, and nothing is made, if the client has it already.

    `state` names all that the answer depends on besides the request.
    """
    asked = f"{request.url.path}?{request.url.query}\n{request.headers.get('accept', '')}\n{state}"
    tag = f'W/"{hashlib.sha256(asked.encode()).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in (each.strip() for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    answer = make()
    answer.headers.update(headers)
    return answer
