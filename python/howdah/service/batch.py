"""stub"""

BATCH = None
