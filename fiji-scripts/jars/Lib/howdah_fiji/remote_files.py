"""Files of a task that runs on another computer: shared folders by their name there; all others are sent, and results fetched.

A shared folder is one that both computers see, each by its own name: "/mnt/lab" here, "/data/lab" there (Choose backend).
"""

import os
import re
from zipfile import BadZipfile, ZipFile

from java.io import IOException
from java.net import URLEncoder
from java.nio.file import Files, Paths, StandardCopyOption

from howdah_fiji import places
from howdah_fiji.problems import FAULT, Problem

OWN = "job:"  # before the name of a file in the job's own folder
NAMED = re.compile(r"<SpimDataFile[^>]*>([^<]+)</SpimDataFile>")
HOW = (
    "%s names its movie (%s), and the backend at %s is on another computer, which would get the project alone. Put both into a "
    "folder that both computers see, and name it in Plugins > Howdah > Backend > Choose backend ('Shared folder here', 'The same "
    "folder there'); or work with a backend on this computer."
)


class Errand(object):
    """What one task needs of this computer's files.

    Args:
        backend: The HttpBackend.
        schema: Of the task's parameters.
        told: The parameters; paths in them become those of the other computer.
    """

    def __init__(self, backend, schema, told):
        self.backend = backend
        self.here, self.there = shared_folder()
        self.wanted = []  # (parameter, name in the job's folder, path here)
        self.mapped = {}  # path there: path here
        self.sent = {}  # upload: path here
        self.names = set()
        for name, role in sorted(files_in(schema).items()):
            value = told.get(name)
            if not value or is_upload(value):
                continue
            place = self._read if role == "read" else lambda path, name=name: self._written(name, path)
            told[name] = [place(one) for one in value] if isinstance(value, list) else place(value)
        if isinstance(told.get("parameters"), dict):  # of a batch: paths for the jobs of all its movies
            inner = told["parameters"]
            told["parameters"] = {name: self._inner(value) for name, value in inner.items()}

    def fetch(self, job, result):
        """Bring the results, and name them in the task's result by their paths here."""
        if self.wanted:
            listed = [one["name"] for one in self.backend.ask("GET", "/api/jobs/%s/files" % job["id"])]
        for _, name, target in self.wanted:
            if name in listed:
                self._download(job["id"], name, target)
            else:
                inside = [one for one in listed if one.startswith(name + "/")]
                if not inside:
                    raise Problem("The task gave no file for %s." % target, FAULT)
                for one in inside:
                    path = os.path.join(target, *one[len(name) + 1 :].split("/"))
                    places.ensure(os.path.dirname(path))
                    self._download(job["id"], one, path)
        for name, value in list(result.items()):
            result[name] = self._here(value, job["id"])

    def _here(self, value, job_id):
        """Return a path of a result by its name here, if it has one."""
        if isinstance(value, list):
            return [self._here(one, job_id) for one in value]
        if not hasattr(value, "endswith"):
            return value
        plain = value.replace("\\", "/")
        for _, name, target in self.wanted:
            if plain.endswith("/%s/%s" % (job_id, name)):
                return target
        for upload, path in self.sent.items():
            if "/uploads/%s/" % upload.split(":", 1)[-1] in plain:
                return path
        return self.mapped.get(value, value)

    def _shared(self, path):
        """Return what a path is called there, or None if it lies in no shared folder."""
        if not is_shared(path):
            return None
        full, root = os.path.abspath(path), os.path.abspath(self.here)
        sign = "\\" if "\\" in self.there and "/" not in self.there else "/"
        there = sign.join([self.there.rstrip("/\\")] + [part for part in full[len(root) :].split(os.sep) if part])
        self.mapped[there] = path
        return there

    def _read(self, path):
        there = self._shared(path)
        if there is not None or not os.path.exists(path):
            return there or path  # a path of that computer
        movie = movie_of(path)
        if movie:
            raise Problem(HOW % (path, movie, self.backend.url))
        if os.path.isdir(path):
            raise Problem(
                "%s is a folder; a backend on another computer gets single files. Put it into a folder that both computers see, and "
                "name that in Plugins > Howdah > Backend > Choose backend ('Shared folder here')." % path
            )
        sent = self.backend.upload_file(path)
        self.sent[sent] = path
        return sent

    def _inner(self, value):
        known = hasattr(value, "endswith") and os.path.isabs(value) and os.path.exists(value)
        return self._read(value) if known else value

    def _written(self, parameter, path):
        there = self._shared(path)
        if there is not None:
            return there
        name, number = re.sub(r"[^\w .()+-]", "_", os.path.basename(path)).lstrip("."), 1
        while name in self.names:
            number += 1
            name = "%d-%s" % (number, name)
        self.names.add(name)
        self.wanted.append((parameter, name, path))
        return OWN + name

    def _download(self, job_id, name, target):
        quoted = "/".join(URLEncoder.encode(part, "UTF-8").replace("+", "%20") for part in name.split("/"))
        stream = self.backend.stream("/api/jobs/%s/files/%s" % (job_id, quoted))
        part = target + ".part"
        try:
            Files.copy(stream, Paths.get(part), [StandardCopyOption.REPLACE_EXISTING])
        except IOException as error:
            raise Problem("Fetching %s from the backend failed: %s." % (target, error.getMessage()), FAULT)
        finally:
            stream.close()
        Files.move(Paths.get(part), Paths.get(target), [StandardCopyOption.REPLACE_EXISTING])


def shared_folder():
    """Return (its name here, its name there); two empty texts where none was chosen."""
    chosen = places.choice()
    here, there = chosen.get("here") or "", chosen.get("there") or ""
    return (here, there) if here and there else ("", "")


def is_shared(path):
    """Whether a path lies in the folder that both computers see."""
    here = shared_folder()[0]
    root = os.path.abspath(here).rstrip(os.sep) + os.sep
    return bool(here) and (os.path.abspath(path) + os.sep).startswith(root)


def is_upload(value):
    """Whether a parameter was sent already."""
    first = value[0] if isinstance(value, list) and value else value
    return ("%s" % first).startswith("upload:")


def movie_of(path):
    """Return the movie that a Mastodon project or a TrackMate file names, or ''."""
    low = path.lower()
    if low.endswith(".mastodon") and os.path.isfile(path):
        try:
            archive = ZipFile(path)
        except (BadZipfile, IOError):
            return ""
        try:
            text = archive.read("project.xml").decode("utf-8") if "project.xml" in archive.namelist() else ""
        finally:
            archive.close()
    elif low.endswith(".xml") and os.path.isfile(path):
        with open(path, "rb") as source:
            text = source.read(1 << 16).decode("utf-8", "replace")
        if "<SpimData" in text and "SpimDataFile" not in text:
            return "pixels in files beside it"
    else:
        return ""
    found = NAMED.search(text)
    return found.group(1).strip() if found else ""


def files_in(schema):
    """Return {parameter: "read" or "write"} of the files in a schema."""
    found = {}
    for name, value in schema.get("properties", {}).items():
        for part in [value, value.get("items", {})] + value.get("anyOf", []):
            inner = part.get("items", part)
            if inner.get("format") == "path":
                found[name] = inner["role"]
    return found
