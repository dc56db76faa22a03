"""Routes of images and tables as raw bytes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response

from howdah.service.arrays import ArrayHeader, begin_tiff
from howdah.service.clean import load_table, save_table
from howdah.service.http_answers import Json, part_of_file
from howdah.service.http_files import RAW_ANSWER, RAW_BODY
from howdah.service.http_jobs import ERRORS
from howdah.service.http_service import RESULT, Service, array_of
from howdah.service.security import Refused
from howdah.service.tables import TableHeader, pack, unpack
from howdah.service.uploads import Upload

__all__ = ["data_routes"]

DataId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_.-]{1,128}$", description="What follows 'upload:', 'array:' or 'table:'.")
]
Text = Annotated[str | None, Header()]
MOST_TABLE = 1 << 30


def data_routes(service: Service) -> APIRouter:
    """Return the routes of images and tables."""
    routes = APIRouter(prefix="/api", responses=ERRORS, default_response_class=Json)
    uploads = service.uploads

    @routes.post("/arrays", status_code=201, openapi_extra=RAW_BODY)
    async def send_array(request: Request, x_howdah_array: Text = None) -> Response:
        """Send an image: the header ``X-Howdah-Array`` says what the bytes are; they go to the disk as they come."""
        header = ArrayHeader.parse(x_howdah_array)
        size = uploads.expect(request.headers.get("content-length"), header.n_bytes)
        upload = await uploads.take(
            request.stream(),
            size,
            kind="array",
            name="array.ome.tif",
            header=asdict(header),
            begin=lambda path: begin_tiff(path, header),
        )
        return Json({"array": f"upload:{upload.id}"}, 201)

    @routes.get("/arrays/{data_id}", responses=RAW_ANSWER, response_class=Response)
    def array(data_id: DataId, request: Request) -> Response:
        """Return an image as raw bytes, with the header ``X-Howdah-Array``: an upload's, or one of a job's result."""
        if RESULT.fullmatch(data_id):
            job, path = service.result_file(data_id)
            offset, header = array_of(job, path)
        else:
            upload = _upload(service, data_id, "array")
            path, offset = upload.path, upload.offset
            header = ArrayHeader.checked(upload.header)
        said = {"X-Howdah-Array": header.to_text()}
        return part_of_file(request, path, start=offset, count=header.n_bytes, headers=said)

    @routes.post("/tables", status_code=201, openapi_extra=RAW_BODY)
    async def send_table(request: Request, x_howdah_table: Text = None) -> Response:
        """Send a table: the header ``X-Howdah-Table`` names its columns, whose bytes follow one after another."""
        header = TableHeader.parse(x_howdah_table)
        if header.n_bytes > MOST_TABLE:
            raise Refused(f"The table has {header.n_bytes:,} bytes; at most {MOST_TABLE:,} are taken.", 413)
        size = uploads.expect(request.headers.get("content-length"), header.n_bytes)
        upload = await uploads.take(
            request.stream(),
            size,
            kind="table",
            name="table.npz",
            header={"columns": header.columns, "rows": header.rows},
        )
        await asyncio.to_thread(_to_npz, upload.path, header)
        return Json({"table": f"upload:{upload.id}"}, 201)

    @routes.get("/tables/{data_id}", responses=RAW_ANSWER, response_class=Response)
    def table(data_id: DataId) -> Response:
        """Return a table as packed columns, with the header ``X-Howdah-Table``: an upload's, or one of a job's result."""
        is_result = RESULT.fullmatch(data_id) is not None
        path = service.result_file(data_id)[1] if is_result else _upload(service, data_id, "table").path
        if path.suffix != ".npz":
            raise Refused(f"{data_id} is an image; ask /api/arrays for it.", 404)
        header, data = pack(load_table(path))
        return Response(data, headers={"X-Howdah-Table": header.to_text()}, media_type="application/octet-stream")

    return routes


def _upload(service: Service, data_id: str, kind: str) -> Upload:
    upload = service.uploads.find(data_id)
    if upload.kind != kind:
        raise Refused(f"The upload {data_id} is no {kind}.", 404)
    return upload


def _to_npz(path: FilePath, header: TableHeader) -> None:
    """Turn packed columns into the file that tasks read, in their place."""
    table = unpack(header, path.read_bytes())
    save_table(path, table)
