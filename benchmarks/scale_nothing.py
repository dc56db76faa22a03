"""A block that does nothing: what handing it out costs is what it costs."""

from howdah.scale.plan import Call, Result


def nothing(call: Call) -> Result:
    """Return nothing."""
    return Result(facts={"n": call.arguments["n"]})
