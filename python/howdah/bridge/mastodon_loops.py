"""Loops over spots and links that run inside Java: one call for any number of spots.

A call from Python into Java takes some microseconds, and a spot needs several. So the loops are written in Groovy, which
every Fiji has, and compiled to Java code when they are needed first. Without Groovy, :class:`Loops` does the same one
call after the other: right, but slow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.bridge.mastodon_java import java_array

__all__ = ["GROOVY", "Loops", "fast_loops", "joined_labels", "loops", "spot_ids"]

log = logging.getLogger("howdah")
END, NONE = "\x1f", "\x1e"  # after each label; instead of one that is not given

GROOVY = """
import groovy.transform.CompileStatic
import org.mastodon.mamut.model.*
import org.mastodon.model.tag.ObjTagMap
import org.mastodon.properties.ObjPropertyMap

@CompileStatic
class HowdahLoops {
  static SpotPool pool(ModelGraph g) { return (SpotPool) g.vertices().getRefPool() }
  static LinkPool links(ModelGraph g) { return (LinkPool) g.edges().getRefPool() }

  static int[] spots(ModelGraph g) {
    int[] ids = new int[g.vertices().size()]; int i = 0
    for (Spot s : g.vertices()) ids[i++] = s.getInternalPoolIndex()
    return ids
  }
  static int[] add_spots(ModelGraph g, int[] t, double[] xyz, double[] covariance) {
    int[] ids = new int[t.length]; Spot ref = g.vertexRef(); double[] p = new double[3]; double[][] c = new double[3][3]
    for (int i = 0; i < t.length; i++) {
      for (int k = 0; k < 3; k++) { p[k] = xyz[3 * i + k]; for (int l = 0; l < 3; l++) c[k][l] = covariance[9 * i + 3 * k + l] }
      ids[i] = g.addVertex(ref).init(t[i], p, c).getInternalPoolIndex()
    }
    g.releaseRef(ref)
    return ids
  }
  static void remove_spots(ModelGraph g, int[] ids) {
    SpotPool all = pool(g); Spot ref = g.vertexRef()
    for (int id : ids) g.remove(all.getObject(id, ref))
    g.releaseRef(ref)
  }
  static void move_spots(ModelGraph g, int[] ids, double[] xyz) {
    SpotPool all = pool(g); Spot ref = g.vertexRef(); double[] p = new double[3]
    for (int i = 0; i < ids.length; i++) {
      for (int k = 0; k < 3; k++) p[k] = xyz[3 * i + k]
      all.getObject(ids[i], ref).setPosition(p)
    }
    g.releaseRef(ref)
  }
  static void shape_spots(ModelGraph g, int[] ids, double[] covariance) {
    SpotPool all = pool(g); Spot ref = g.vertexRef(); double[][] c = new double[3][3]
    for (int i = 0; i < ids.length; i++) {
      for (int k = 0; k < 3; k++) for (int l = 0; l < 3; l++) c[k][l] = covariance[9 * i + 3 * k + l]
      all.getObject(ids[i], ref).setCovariance(c)
    }
    g.releaseRef(ref)
  }
  static void label_spots(ModelGraph g, int[] ids, String labels) {
    SpotPool all = pool(g); Spot ref = g.vertexRef(); ObjPropertyMap<Spot, String> map = (ObjPropertyMap<Spot, String>) all.labelProperty()
    char end = (char) 0x1F, none = (char) 0x1E
    int at = 0
    for (int i = 0; i < ids.length; i++) {
      Spot s = all.getObject(ids[i], ref)
      int stop = labels.indexOf((int) end, at)
      if (stop == at + 1 && labels.charAt(at) == none) map.remove(s) else s.setLabel(labels.substring(at, stop))
      at = stop + 1
    }
    g.releaseRef(ref)
  }
  static int[] add_links(ModelGraph g, int[] ends) {
    SpotPool all = pool(g); Spot a = g.vertexRef(); Spot b = g.vertexRef(); Link ref = g.edgeRef()
    int[] ids = new int[ends.length.intdiv(2)]
    for (int i = 0; i < ids.length; i++)
      ids[i] = g.addEdge(all.getObject(ends[2 * i], a), all.getObject(ends[2 * i + 1], b), ref).init().getInternalPoolIndex()
    g.releaseRef(a); g.releaseRef(b); g.releaseRef(ref)
    return ids
  }
  static int[] find_links(ModelGraph g, int[] ends) {
    SpotPool all = pool(g); Spot a = g.vertexRef(); Spot b = g.vertexRef(); Link ref = g.edgeRef()
    int[] ids = new int[ends.length.intdiv(2)]
    for (int i = 0; i < ids.length; i++) {
      Link e = g.getEdge(all.getObject(ends[2 * i], a), all.getObject(ends[2 * i + 1], b), ref)
      ids[i] = e == null ? -1 : e.getInternalPoolIndex()
    }
    g.releaseRef(a); g.releaseRef(b); g.releaseRef(ref)
    return ids
  }
  static void remove_links(ModelGraph g, int[] ids) {
    LinkPool all = links(g); Link ref = g.edgeRef()
    for (int id : ids) g.remove(all.getObject(id, ref))
    g.releaseRef(ref)
  }
  static void tag_spots(ModelGraph g, ObjTagMap map, Object[] tags, int[] ids, int[] positions) {
    SpotPool all = pool(g); Spot ref = g.vertexRef()
    for (int i = 0; i < ids.length; i++) {
      Spot s = all.getObject(ids[i], ref)
      if (positions[i] < 0) map.remove(s) else map.set(s, tags[positions[i]])
    }
    g.releaseRef(ref)
  }
  static void tag_links(ModelGraph g, ObjTagMap map, Object[] tags, int[] ids, int[] positions) {
    LinkPool all = links(g); Link ref = g.edgeRef()
    for (int i = 0; i < ids.length; i++) {
      Link e = all.getObject(ids[i], ref)
      if (positions[i] < 0) map.remove(e) else map.set(e, tags[positions[i]])
    }
    g.releaseRef(ref)
  }
}
"""


class Loops:
    """The loops from Python, some calls a spot; the compiled ones have the same methods.

    Ids are Mastodon's internal pool indices, coordinates (x, y, z); all arrays are Java's, and flat.
    """

    def spots(self, graph: Any) -> Any:
        """Return the ids of all spots in the order in which Mastodon writes them."""
        return java_array(np.array([int(s.getInternalPoolIndex()) for s in graph.vertices()], np.int32), "int")

    def add_spots(self, graph: Any, t: Any, xyz: Any, covariance: Any) -> Any:
        """Add spots (3 coordinates and 9 covariances each) and return their ids."""
        frames, places, shapes = np.asarray(t), np.asarray(xyz).reshape(-1, 3), np.asarray(covariance).reshape(-1, 3, 3)
        ref, ids = graph.vertexRef(), np.empty(len(frames), np.int32)
        for i, frame in enumerate(frames.tolist()):
            spot = graph.addVertex(ref).init(frame, java_array(places[i], "double"), shapes[i].tolist())
            ids[i] = int(spot.getInternalPoolIndex())
        graph.releaseRef(ref)
        return java_array(ids, "int")

    def remove_spots(self, graph: Any, ids: Any) -> None:
        """Remove spots and their links."""
        pool, ref = graph.vertices().getRefPool(), graph.vertexRef()
        for number in ids:
            graph.remove(pool.getObject(number, ref))
        graph.releaseRef(ref)

    def move_spots(self, graph: Any, ids: Any, xyz: Any) -> None:
        """Set places."""
        pool, ref, places = graph.vertices().getRefPool(), graph.vertexRef(), np.asarray(xyz).reshape(-1, 3)
        for i, number in enumerate(ids):
            pool.getObject(number, ref).setPosition(java_array(places[i], "double"))
        graph.releaseRef(ref)

    def shape_spots(self, graph: Any, ids: Any, covariance: Any) -> None:
        """Set ellipsoids."""
        pool, ref, shapes = graph.vertices().getRefPool(), graph.vertexRef(), np.asarray(covariance).reshape(-1, 3, 3)
        for i, number in enumerate(ids):
            pool.getObject(number, ref).setCovariance(shapes[i].tolist())
        graph.releaseRef(ref)

    def label_spots(self, graph: Any, ids: Any, labels: Any) -> None:
        """Set labels, as :func:`joined_labels` gives them: a Java array of texts is slow, and too much for one call."""
        pool, ref = graph.vertices().getRefPool(), graph.vertexRef()
        known = pool.labelProperty()
        for number, label in zip(ids, str(labels).split(END)[:-1], strict=True):
            spot = pool.getObject(number, ref)
            if label == NONE:
                known.remove(spot)
            else:
                spot.setLabel(label)
        graph.releaseRef(ref)

    def add_links(self, graph: Any, ends: Any) -> Any:
        """Add links, given as source, target, source, target ..., and return their ids."""
        return self._links(graph, ends, lambda a, b, ref: graph.addEdge(a, b, ref).init())

    def find_links(self, graph: Any, ends: Any) -> Any:
        """Return the ids of links, -1 where there is none."""
        return self._links(graph, ends, graph.getEdge)

    def _links(self, graph: Any, ends: Any, link_of: Any) -> Any:
        pool, a, b, ref = graph.vertices().getRefPool(), graph.vertexRef(), graph.vertexRef(), graph.edgeRef()
        found = []
        for source, target in np.asarray(ends).reshape(-1, 2).tolist():
            link = link_of(pool.getObject(source, a), pool.getObject(target, b), ref)
            found.append(-1 if link is None else int(link.getInternalPoolIndex()))
        for used in (a, b, ref):
            graph.releaseRef(used)
        return java_array(np.array(found, np.int32), "int")

    def remove_links(self, graph: Any, ids: Any) -> None:
        """Remove links."""
        pool, ref = graph.edges().getRefPool(), graph.edgeRef()
        for number in ids:
            graph.remove(pool.getObject(number, ref))
        graph.releaseRef(ref)

    def tag_spots(self, graph: Any, tag_map: Any, tags: Any, ids: Any, positions: Any) -> None:
        """Set the tag of one set by its position in it; -1 takes it away."""
        self._tag(graph.vertices().getRefPool(), tag_map, tags, (ids, positions))

    def tag_links(self, graph: Any, tag_map: Any, tags: Any, ids: Any, positions: Any) -> None:
        """The same for links."""
        self._tag(graph.edges().getRefPool(), tag_map, tags, (ids, positions))

    def _tag(self, pool: Any, tag_map: Any, tags: Any, what: tuple[Any, Any]) -> None:
        ref = pool.createRef()
        for number, position in zip(what[0], what[1], strict=True):
            one = pool.getObject(number, ref)
            if position < 0:
                tag_map.remove(one)
            else:
                tag_map.set(one, tags[position])
        pool.releaseRef(ref)


def joined_labels(labels: Sequence[str | None]) -> str:
    """Return all labels as one text; the two control characters that part them are taken out of labels."""
    clean = (NONE if label is None else label.replace(END, "").replace(NONE, "") for label in labels)
    return "".join(label + END for label in clean)


def loops(model: Any) -> Loops:
    """Return the loops for a model: compiled ones where this Java has Groovy, else plain ones, with a line in the log."""
    found = fast_loops(model.getClass().getClassLoader())
    return Loops() if found is None else found


@cache
def fast_loops(loader: Any) -> Loops | None:
    """Compile the loops in Groovy with a class loader that knows Mastodon; None where there is no Groovy."""
    import jpype

    try:
        groovy = jpype.JClass("groovy.lang.GroovyClassLoader")
    except TypeError:
        log.info("This Java has no Groovy: spots are sent to Mastodon one by one, which is slow for many.")
        return None
    compiled: Loops = jpype.JClass(groovy(loader).parseClass(GROOVY))
    return compiled


def spot_ids(model: Any, by: Loops) -> npt.NDArray[np.int64]:
    """Return (N,) ids of the spots of a model in the order in which Mastodon writes them."""
    return np.asarray(by.spots(model.getGraph())).astype(np.int64)
