"""Carrying out a plan in Mastodon's model: the caller holds the write lock, and Mastodon records every step for undo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.mastodon.feature_files import QUALITY as QUALITY_NAME
from bdv_io.mastodon.feature_files import SPOT_CONTAINER, write_features
from bdv_io.tags import Feature, TagSet
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class
from howdah.bridge.mastodon_java import java_array
from howdah.bridge.mastodon_loops import Loops, joined_labels
from howdah.bridge.mastodon_plan import NEW, Plan, Reading, known_values, rows_of, stored_features

I64 = npt.NDArray[np.int64]

__all__ = ["edit", "write_changed_features"]


def edit(model: Any, plan: Plan, after: Tracks, by: Loops) -> I64:
    """Carry out the plan but for its features; return (N,) the ids of all spots of the later annotation."""
    graph = model.getGraph()
    if len(plan.links_removed):
        found = np.asarray(by.find_links(graph, java_array(plan.links_removed, "int")))
        by.remove_links(graph, java_array(found[found != NEW], "int"))
    if len(plan.removed):
        by.remove_spots(graph, java_array(plan.removed, "int"))
    ids = plan.ids.copy()
    if len(plan.added):
        rows = plan.added
        xyz, covariance = after.centre[rows][:, ::-1], after.covariance[rows][:, ::-1, ::-1]
        new = by.add_spots(
            graph, java_array(after.t[rows], "int"), java_array(xyz, "double"), java_array(covariance, "double")
        )
        ids[rows] = np.asarray(new)
    if len(plan.moved):
        xyz = after.centre[plan.moved][:, ::-1]
        by.move_spots(graph, java_array(ids[plan.moved], "int"), java_array(xyz, "double"))
    if len(plan.reshaped):
        covariance = after.covariance[plan.reshaped][:, ::-1, ::-1]
        by.shape_spots(graph, java_array(ids[plan.reshaped], "int"), java_array(covariance, "double"))
    _label(graph, plan, after, ids, by)
    if len(plan.links_added):
        by.add_links(graph, java_array(ids[after.links[plan.links_added]], "int"))
    _tag(model, plan, after, ids, by)
    return ids


def _label(graph: Any, plan: Plan, after: Tracks, ids: I64, by: Loops) -> None:
    labels = after.label[plan.added].tolist()
    named = plan.added[np.array([label is not None for label in labels], bool)]
    rows = np.concatenate([plan.relabelled, named])
    if len(rows):
        texts = after.label[rows].tolist()
        by.label_spots(graph, java_array(ids[rows], "int"), joined_labels(texts))


# ---- tags ------------------------------------------------------------------------------------------------------------


def _tag(model: Any, plan: Plan, after: Tracks, ids: I64, by: Loops) -> None:
    tagging, graph = model.getTagSetModel(), model.getGraph()
    if plan.new_tag_sets:
        tagging.setTagSetStructure(_structure(tagging.getTagSetStructure(), after.tag_sets))
    sets = {str(known.getName()): known for known in tagging.getTagSetStructure().getTagSets()}
    for wanted in after.tag_sets:
        rows = plan.retagged.get(wanted.name)
        if rows is not None:
            numbers, tags = java_array(ids[rows], "int"), sets[wanted.name].getTags().toArray()
            positions = java_array(_positions(sets[wanted.name], wanted)[wanted.spots[rows]], "int")
            by.tag_spots(graph, tagging.getVertexTags().tags(sets[wanted.name]), tags, numbers, positions)
        rows = plan.links_retagged.get(wanted.name)
        if rows is not None:
            found = np.asarray(by.find_links(graph, java_array(ids[after.links[rows]], "int")))
            there = found != NEW
            numbers, tags = java_array(found[there], "int"), sets[wanted.name].getTags().toArray()
            positions = java_array(_positions(sets[wanted.name], wanted)[wanted.links[rows[there]]], "int")
            by.tag_links(graph, tagging.getEdgeTags().tags(sets[wanted.name]), tags, numbers, positions)


def _positions(known: Any, wanted: TagSet) -> npt.NDArray[np.int64]:
    """For each tag of a set its position in Mastodon's set, and -1 at the end for no tag."""
    names = [str(tag.label()) for tag in known.getTags()]
    same = names == [tag.name for tag in wanted.tags]
    places = [i if same else names.index(tag.name) for i, tag in enumerate(wanted.tags)]
    return np.array([*places, -1], dtype=np.int64)


def _structure(current: Any, wanted: tuple[TagSet, ...]) -> Any:
    """Mastodon's tag sets as they are to be; sets and tags that stay keep their number, and with it who is tagged."""
    structure = java_class("org.mastodon.model.tag.TagSetStructure")()
    structure.set(current)
    names = {tags.name for tags in wanted}
    for known in list(structure.getTagSets()):
        if str(known.getName()) not in names:
            structure.remove(known)
    sets = {str(known.getName()): known for known in structure.getTagSets()}
    for tags in wanted:
        known = sets.get(tags.name) or structure.createTagSet(tags.name)
        stay = {tag.name for tag in tags.tags}
        for tag in list(known.getTags()):
            if str(tag.label()) not in stay:
                known.removeTag(tag)
        there = {str(tag.label()): tag for tag in known.getTags()}
        for tag in tags.tags:
            colour = int(np.uint32(tag.colour).astype(np.int32))
            if tag.name in there:
                there[tag.name].setColor(colour)
            else:
                known.createTag(tag.name, colour)
    return structure


# ---- features --------------------------------------------------------------------------------------------------------


def write_changed_features(
    model: Any, context: Any, plan: Plan, after: Tracks, *, ids: I64, reading: Reading, current: Tracks, by: Loops
) -> None:
    """Put the changed features into Mastodon's model; undo does not know features.

    Args:
        model: Mastodon's.
        context: SciJava's, for the features' readers.
        plan: Names the features.
        after: Has their values.
        ids: (N,) Mastodon's id of each spot of ``after``, as :func:`edit` returned it.
        reading: What ``after`` was made of: values of spots that are as they were there are left to Mastodon.
        current: What Mastodon held just before: spots of it that ``after`` does not have keep their values.
        by: The loops of this Java.
    """
    specs = context.getService(java_class("org.mastodon.feature.FeatureSpecsService").class_)
    writers = context.getService(java_class("org.mastodon.feature.io.FeatureSerializationService").class_)
    known = model.getFeatureModel()
    for key in plan.features_removed:
        known.clear(specs.getSpec(key))
    if not plan.features:
        return
    whole, numbers = _with_the_rest(_merged(after, plan, reading, current), ids, current, plan)
    graph, stored = model.getGraph(), stored_features(whole)
    links = np.asarray(by.find_links(graph, java_array(numbers[whole.links], "int")))
    files = write_features(
        replace(
            whole,
            features=tuple(f for f in stored.values() if f.name in plan.features and f.projection != QUALITY_NAME),
            quality=whole.quality if SPOT_CONTAINER in plan.features else np.full(whole.n_spots, np.nan),
        )
    )
    for key, content in files.items():
        target = next(feature.target for feature in stored.values() if feature.name == key)
        pool = graph.edges() if target == "link" else graph.vertices()
        stream = java_class("java.io.ObjectInputStream")(java_class("java.io.ByteArrayInputStream")(content))
        index = _index(links if target == "link" else numbers, pool)
        known.declareFeature(writers.getFeatureSerializerFor(specs.getSpec(key)).deserialize(index, pool, stream))


def _index(ids: npt.NDArray[Any], pool: Any) -> Any:
    """Mastodon's map from the rows of a file to its own objects."""
    rows = java_array(np.arange(len(ids)), "int")
    numbers = java_class("gnu.trove.map.hash.TIntIntHashMap")(rows, java_array(ids, "int"))
    return java_class("org.mastodon.io.FileIdToObjectMap")(numbers, pool.getRefPool())


def _with_the_rest(after: Tracks, ids: I64, current: Tracks, plan: Plan) -> tuple[Tracks, I64]:
    """The later annotation and what the user added to Mastodon meanwhile, with the ids of both."""
    gone = np.isin(current.id, plan.removed)
    rest = np.flatnonzero(~gone & (rows_of(current.id, ids) < 0))
    if not len(rest):
        return after, ids
    extra = current.select(rest)
    return after.concatenate(extra), np.concatenate([ids, extra.id])


def _merged(after: Tracks, plan: Plan, reading: Reading, current: Tracks) -> Tracks:
    """The later annotation with Mastodon's own values where nobody but Mastodon or its user has changed them."""
    if reading.tracks is current:
        return after
    then, now = rows_of(plan.ids, reading.numbers), rows_of(plan.ids, current.id)
    both = np.flatnonzero((then >= 0) & (now >= 0))
    old, live, merged = stored_features(reading.tracks), stored_features(current), list[Feature]()
    for key, feature in stored_features(after).items():
        if feature.target == "spot" and key in old and key in live:
            known = [known_values(one)[rows] for one, rows in ((feature, both), (old[key], then[both]))]
            same = (known[0] == known[1]) & (~known[0] | (feature.values[both] == old[key].values[then[both]]))
            values, defined = feature.values.copy(), known_values(feature)
            values[both[same]] = live[key].values[now[both[same]]]
            defined[both[same]] = known_values(live[key])[now[both[same]]]
            feature = replace(feature, values=values, defined=defined)
        merged.append(feature)
    quality = next((f for f in merged if f.projection == QUALITY_NAME and f.name == SPOT_CONTAINER), None)
    if quality is None:
        return replace(after, features=tuple(merged))
    certain = np.where(known_values(quality), quality.values, np.nan)
    return replace(after, features=tuple(f for f in merged if f is not quality), quality=certain)
