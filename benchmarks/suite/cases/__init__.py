"""The cases: each module makes its cases when it is imported. What they work on is drawn (:mod:`.drawn`), so all know the truth."""
