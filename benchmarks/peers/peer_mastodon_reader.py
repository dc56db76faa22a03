"""mastodon-reader (BSD-3): the whole project, as we read it."""

from importlib.metadata import version

from timed import measured


def read(given):
    from mastodon_reader import MastodonReader

    return MastodonReader(given["file"]).read


measured({"read": read}, lambda: version("mastodon-reader"))
