"""motile (MIT) with SCIP: the best links of the whole movie by an integer programme; candidates by distance, 8 a spot."""

import importlib
import itertools
from importlib.metadata import version

from timed import measured


def link(given):
    import numpy as np

    tool = importlib.import_module("motile")
    costs, constraints = importlib.import_module("motile.costs"), importlib.import_module("motile.constraints")
    spots = np.load(given["file"])
    t, centre = spots["t"], spots["centre"]
    by_frame = [np.flatnonzero(t == frame) for frame in range(t.max() + 1)]

    def solve():
        import networkx as nx

        graph = nx.DiGraph()
        for row, (frame, place) in enumerate(zip(t.tolist(), centre.tolist(), strict=True)):
            graph.add_node(row, t=frame, z=place[0], y=place[1], x=place[2])
        for earlier, later in itertools.pairwise(by_frame):
            away = ((centre[earlier][:, None] - centre[later][None]) ** 2).sum(axis=2)
            near = np.argsort(away, axis=0)[:8]
            for column, row in enumerate(later.tolist()):
                for k in near[:, column]:
                    if away[k, column] <= given["max_distance"] ** 2:
                        cost = away[k, column] / given["max_distance"] ** 2
                        graph.add_edge(int(earlier[k]), row, cost=float(cost))
        track = tool.TrackGraph(graph, frame_attribute="t")
        solver = tool.Solver(track)
        solver.add_constraint(constraints.MaxParents(1))
        solver.add_constraint(constraints.MaxChildren(2))
        solver.add_cost(costs.EdgeSelectedCost(weight=1.0, attribute="cost", constant=-1.0))
        solver.add_cost(costs.NodeSplitCost(constant=0.9))
        solver.add_cost(costs.NodeSelectedCost(constant=-10.0))
        solver.solve()
        return solver.get_selected_subgraph()

    return solve


measured({"link": link}, lambda: version("motile"))
