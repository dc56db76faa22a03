"""Routes of files: what a job wrote, whole or in parts, and files that clients send."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from howdah.service.http_answers import Json, part_of_file
from howdah.service.http_jobs import ERRORS, JobId
from howdah.service.http_service import Service

__all__ = ["RAW_BODY", "UploadId", "file_routes"]

UploadId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Of an upload, without 'upload:'.")]
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
RAW_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": BYTES}}
RAW_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": BYTES, "description": "The bytes."},
    206: {"content": BYTES, "description": "The part that the header Range asks for."},
}


def file_routes(service: Service) -> APIRouter:
    """Return the routes of files."""
    routes = APIRouter(prefix="/api", responses=ERRORS, default_response_class=Json)

    @routes.post("/files", status_code=201, openapi_extra=RAW_BODY)
    async def send_file(
        request: Request, name: Annotated[str, Query(max_length=255, description="Only its ending is used.")] = ""
    ) -> Response:
        """Send a file as it is; ``{"file": "upload:ID"}`` stands for its path in the parameters of a task."""
        size = service.uploads.expect(request.headers.get("content-length"))
        upload = await service.uploads.take(request.stream(), size, kind="file", name=name, header={})
        return Json({"file": f"upload:{upload.id}"}, 201)

    @routes.delete("/uploads/{upload_id}", status_code=204)
    def delete_upload(upload_id: UploadId) -> Response:
        """Remove an upload."""
        service.delete_upload(upload_id)
        return Response(status_code=204)

    @routes.get("/jobs/{job_id}/files")
    def files(job_id: JobId) -> Response:
        """List the files in a job's own folder: name and bytes."""
        return Json(service.files_of(service.job(job_id)))

    @routes.get("/jobs/{job_id}/files/{name:path}", responses=RAW_ANSWER, response_class=Response)
    def file(job_id: JobId, name: str, request: Request) -> Response:
        """Return a file of a job, also one inside a folder (a chunk of an OME-Zarr); the header Range asks for a part."""
        path = service.file_of(service.job(job_id), name)
        return part_of_file(request, path, headers={"Content-Disposition": "attachment"})

    return routes
