"""Scale-out: the same work in blocks, on one computer or many, that survives kills and gives the same result.

A *plan* (:class:`Plan`) is a list of *blocks* (:class:`Block`): a part of a frame, a frame, a window in time. A block is a
function of a worker, its arguments, and the blocks that it needs; its result is one file in the *work folder* beside the
target. The *manifest* there (:class:`Manifest`, SQLite) says which blocks are done, with which settings and weights, how often
each was tried and how long it took. A run that was stopped, however, goes on from there. When all blocks are done, the plan's
``gather`` makes the result from their files, with the code of the single-process verbs.

Who executes blocks is exchangeable: this process (:mod:`.serial`), or a dask cluster (:mod:`.cluster`), local by default. Only the
process that runs the plan writes the manifest; workers write files of blocks.

Reading order: :mod:`.plan` (words), :mod:`.folder` and :mod:`.manifest` (what is on disk), :mod:`.identity` (what makes two runs the
same), :mod:`.schedule` (which block is next), :mod:`.execute` (a block in a worker), :mod:`.begin` and :mod:`.run` (the loop), then one
module a verb: :mod:`.detect`, :mod:`.segment`, :mod:`.link`, :mod:`.convert`.
"""
