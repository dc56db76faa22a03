"""Errors as sentences, each with the exit code that headless Fiji ends with."""

DONE, FAULT, BAD_INPUT, MISSING_PART, STOPPED = 0, 1, 2, 3, 130
CODES = {"fault": FAULT, "input": BAD_INPUT, "missing": MISSING_PART, "cancelled": STOPPED}
"""Exit code of each kind of error that the backend names."""


class Problem(Exception):
    """What went wrong, as a sentence for a person; code is the exit code, facts what the record shall hold."""

    def __init__(self, sentence, code=BAD_INPUT, facts=None):
        Exception.__init__(self, sentence)
        self.sentence = sentence
        self.facts = facts or {}
        self.code = code

    def __str__(self):
        """Return the sentence."""
        return self.sentence


def of_job(job):
    """Return the Problem of a job that failed or was cancelled, and of which the backend said why."""
    kind = job.get("kind") or ("cancelled" if job.get("state") == "cancelled" else "fault")
    sentence = job.get("error") or "The task '%s' ended without a result and without a reason." % job.get("task")
    return Problem(sentence, CODES.get(kind, FAULT))
