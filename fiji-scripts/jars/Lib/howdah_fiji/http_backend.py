"""Howdah's service over HTTP: JSON for control, raw bytes for pixels and columns. Plain java.net: nothing to install in Fiji."""

import json
import os

from jarray import zeros
from java.io import DataInputStream, EOFException, FileInputStream, IOException
from java.lang import IllegalStateException, Integer, Runnable, Runtime, Thread
from java.lang import String as JavaString
from java.net import URL, ConnectException, SocketTimeoutException, UnknownHostException, URLEncoder
from java.util import UUID

from howdah_fiji import images, remote_files, tables
from howdah_fiji.problems import BAD_INPUT, FAULT, STOPPED, Problem, of_job

CHUNK = 1 << 20
WAIT_S = 1  # how long the service holds a question about a running job
NOWHERE = "The backend does not answer at %s (%s). Start it with Plugins > Howdah > Backend > Start backend, or `howdah serve`%s."


class HttpBackend(object):
    """A connection to one service.

    Args:
        url: Its address, "http://127.0.0.1:8765".
        token: Its token.
        log: Where its log lies, for error sentences; None if unknown.
        trust: A javax.net.ssl.SSLContext for a certificate of one's own; None: Java's.
        remote: Whether it runs on another computer, which does not see this one's files.
    """

    def __init__(self, url, token, log=None, trust=None, remote=False):
        self.url = url.rstrip("/")
        self.token = token
        self.log = log
        self.trust = trust
        self.remote = remote
        self.stop_with_java = False  # whether Java's end (a kill, Ctrl-C) also stops the job that it waits for
        self.schemas = {}

    def health(self, timeout_s=5):
        """Return what the service says about itself."""
        return self.ask("GET", "/api/health", timeout_s=timeout_s)

    def run(self, task, parameters, image=None, table=None, progress=None):
        """Run a task to its end; see howdah_fiji.connect."""
        schema = self.schema(task)
        told = dict(parameters)
        if image is not None:
            name, uploaded = _place(schema, "array"), self.upload_image(image)
            told[name] = [uploaded] if name == "sources" else uploaded
        if table is not None:
            told[_place(schema, "table")] = self.upload_table(table)
        errand = remote_files.Errand(self, schema, told) if self.remote else None
        order = {"task": task, "parameters": told, "key": str(UUID.randomUUID())}
        job = self.ask("POST", "/api/jobs?wait=%d" % WAIT_S, order)
        job = self._watch(job, progress)
        if job["state"] != "done":
            raise of_job(job)
        result = self._received(job)
        if errand is not None:
            errand.fetch(job, result)
        return result

    def schema(self, task):
        """Return the JSON schema of a task's parameters."""
        if task not in self.schemas:
            found = self.ask("GET", "/api/tasks/" + task)
            self.schemas[task] = found.get("parameters", found.get("schema", found))
        return self.schemas[task]

    def close(self):
        """Forget the connection; the service goes on."""

    def shut_down(self):
        """End the service; its running jobs go on when it starts again."""
        self.ask("POST", "/api/shutdown", {})

    def cancel(self, job_id):
        """Stop a job."""
        return self.ask("POST", "/api/jobs/%s/cancel" % job_id, {})

    def _watch(self, job, progress):
        hook = Thread(Farewell(self, job["id"]), "Howdah-Farewell") if self.stop_with_java else None
        if hook is not None:
            Runtime.getRuntime().addShutdownHook(hook)
        try:
            return self._watched(job, progress)
        finally:
            if hook is not None:
                forget(hook)

    def _watched(self, job, progress):
        while job["state"] in ("queued", "running"):
            if progress is not None and progress(job) is False:
                self.cancel(job["id"])
                raise Problem("Stopped. The last good state is kept; the same again goes on from there.", STOPPED)
            job = self.ask("GET", "/api/jobs/%s?wait=%d" % (job["id"], WAIT_S))
        if progress is not None:
            progress(job)
        return job

    # ---- images, tables and files
    def upload_image(self, imp):
        """Send an ImagePlus plane by plane; return the name that tasks know it by."""
        header = images.header_of(imp)
        total = images.count_of(header) * images.plane_bytes(header)
        connection = self._open("POST", "/api/arrays", {"X-Howdah-Array": json.dumps(header)}, total)
        return self._sent(connection, images.planes_of(imp, header))["array"]

    def upload_table(self, table):
        """Send columns; return the name that tasks know them by."""
        header, data = tables.packed(table)
        connection = self._open("POST", "/api/tables", {"X-Howdah-Table": json.dumps(header)}, len(data))
        return self._sent(connection, [data])["table"]

    def upload_file(self, path):
        """Send a file to a service on another computer; return the name that tasks know it by."""
        if os.path.isdir(path):
            raise Problem(
                "%s is a folder; a service on another computer takes single files, or paths that it sees itself." % path
            )
        name = URLEncoder.encode(os.path.basename(path), "UTF-8")
        connection = self._open("POST", "/api/files?name=" + name, {}, os.path.getsize(path))
        stream = FileInputStream(path)
        try:
            return self._sent(connection, _pieces(stream))["file"]
        finally:
            stream.close()

    def download_image(self, name, title):
        """Return an array of the service as an ImagePlus; name is "array:ID" or "upload:ID"."""
        connection = self._open("GET", "/api/arrays/" + name.split(":", 1)[-1], {})
        stream = DataInputStream(self._answer(connection))
        try:
            header = json.loads(connection.getHeaderField("X-Howdah-Array"))
            planes = images.count_of(header)

            def read(data):
                try:
                    stream.readFully(data)
                except EOFException:
                    raise Problem("The backend's image broke off before its %d planes were here." % planes)

            return images.image_from(title, header, read)
        finally:
            stream.close()

    def download_table(self, name):
        """Return a table of the service as columns (Java arrays)."""
        connection = self._open("GET", "/api/tables/" + name.split(":", 1)[-1], {})
        stream = DataInputStream(self._answer(connection))
        try:
            data = zeros(connection.getContentLength(), "b")
            stream.readFully(data)
        finally:
            stream.close()
        return tables.unpacked(json.loads(connection.getHeaderField("X-Howdah-Table")), data)

    def _received(self, job):
        result = dict(job.get("result") or {})
        for name, value in list(result.items()):
            if isinstance(value, dict) and "array" in value and "shape" in value:
                result[name] = self.download_image(value["array"], "%s of %s" % (name, job["task"]))
            elif isinstance(value, dict) and "table" in value and "columns" in value:
                result[name] = self.download_table(value["table"])
        return result

    def stream(self, path):
        """Return the bytes of an answer as a stream."""
        return self._answer(self._open("GET", path, {}))

    # ---- requests
    def ask(self, method, path, body=None, timeout_s=60):
        """Send a small question and return the answer's JSON."""
        data = None if body is None else JavaString(json.dumps(body)).getBytes("UTF-8")
        headers = {} if data is None else {"Content-Type": "application/json"}
        connection = self._open(method, path, headers, None if data is None else len(data), timeout_s)
        return self._sent(connection, [] if data is None else [data])

    def _open(self, method, path, headers, length=None, timeout_s=600):
        connection = URL(self.url + path).openConnection()
        if self.trust is not None and hasattr(connection, "setSSLSocketFactory"):
            connection.setSSLSocketFactory(self.trust.getSocketFactory())
        connection.setRequestMethod(method)
        connection.setConnectTimeout(5000)
        connection.setReadTimeout(timeout_s * 1000)
        connection.setRequestProperty("Authorization", "Bearer " + self.token)
        for name, value in headers.items():
            connection.setRequestProperty(name, value)
        if length is not None:
            connection.setDoOutput(True)
            if "Content-Type" not in headers:
                connection.setRequestProperty("Content-Type", "application/octet-stream")
            connection.setFixedLengthStreamingMode(length if length > Integer.MAX_VALUE else int(length))
        return connection

    def _sent(self, connection, pieces):
        """Send a body in pieces (Java byte arrays), and return the answer's JSON."""
        try:
            if connection.getDoOutput():
                self._send(connection, pieces)
            text = _text(self._answer(connection))
        except (ConnectException, UnknownHostException) as error:
            problem = self._unreachable(error)
        except SocketTimeoutException:
            problem = Problem("The backend at %s did not answer in time.%s" % (self.url, self._see_log()), FAULT)
        except IOException as error:
            problem = Problem(
                "The connection to the backend at %s broke: %s.%s" % (self.url, error.getMessage(), self._see_log()),
                FAULT,
            )
        else:
            return json.loads(text) if text else {}
        raise problem

    def _send(self, connection, pieces):
        stream = connection.getOutputStream()
        try:
            for piece in pieces:
                stream.write(piece)
        except IOException:
            if connection.getResponseCode() < 400:  # else the service refused in the middle, and says why
                raise
        else:
            stream.close()

    def _answer(self, connection):
        """Return the stream of a good answer; raise the sentence of a bad one."""
        status = connection.getResponseCode()
        if status < 400:
            return connection.getInputStream()
        text = _text(connection.getErrorStream())
        try:
            said = json.loads(text)
            sentence = said.get("error") or said.get("detail")
        except ValueError:
            sentence = text.strip()
        if status in (401, 403) and not sentence:
            sentence = "The token does not fit; choose the backend again."
        raise Problem(
            sentence or "The backend at %s answered with status %d." % (self.url, status),
            BAD_INPUT if status < 500 else FAULT,
        )

    def _unreachable(self, error):
        return Problem(NOWHERE % (self.url, error.getMessage(), "; its log is " + self.log if self.log else ""))

    def _see_log(self):
        return " Its log is %s." % self.log if self.log else ""


class Farewell(Runnable):
    """Stops a job when Java ends."""

    def __init__(self, backend, job_id):
        self.backend = backend
        self.job_id = job_id

    def run(self):
        """Stop it; nobody is left who could be told of an error."""
        try:
            self.backend.cancel(self.job_id)
        except Problem:
            return


def forget(hook):
    """Take back what was to be done when Java ends; where it is ending, it is being done."""
    try:
        Runtime.getRuntime().removeShutdownHook(hook)
    except IllegalStateException:
        return


def _place(schema, kind):
    """Return the parameter that takes an image or a table: by its format, else its source."""
    properties = schema.get("properties", {})
    for name in properties:
        if properties[name].get("format") == kind:
            return name
    for name in ("source", "sources"):
        if kind == "array" and name in properties:
            return name
    raise Problem("This task takes no %s; it takes %s." % (kind, ", ".join(sorted(properties))))


def _pieces(stream):
    """Yield a stream's bytes as byte arrays of up to 1 MiB."""
    data = zeros(CHUNK, "b")
    got = stream.read(data)
    while got > 0:
        yield data if got == CHUNK else data[:got]
        got = stream.read(data)


def _text(stream):
    if stream is None:
        return ""
    try:
        return JavaString(stream.readAllBytes(), "UTF-8").toString()
    finally:
        stream.close()
