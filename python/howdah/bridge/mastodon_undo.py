"""Mastodon's list of steps that can be undone: where it stands, and which place in it is the saved one.

Mastodon tells neither to others, and both are needed so that nobody's work is lost: what failed must be taken back without the step before
it, and what a person changes while a file is written is not saved.
"""

from __future__ import annotations

from typing import Any

__all__ = ["UndoStack"]

NOWHERE = -1  # Mastodon's word for "what is in the file cannot be reached by undoing"


class UndoStack:
    """The steps of one model. Where this Mastodon keeps them elsewhere, positions are None and nothing is changed."""

    def __init__(self, model: Any) -> None:
        import jpype

        self._model = model
        try:
            stack = _value(_value(model, "undoRecorder"), "edits")
            self._places: tuple[Any, Any, Any] | None = (stack, _field(stack, "top"), _field(stack, "savePointIndex"))
        except (LookupError, jpype.JException):
            self._places = None

    @property
    def position(self) -> int | None:
        """How many changes were recorded and are not undone; None if unknown."""
        if self._places is None:
            return None
        stack, top, _ = self._places
        return int(top.getInt(stack))

    def take_back(self, position: int | None) -> None:
        """Undo what was recorded since a position, as one step; nothing if nothing was."""
        if position is not None and self.position == position:
            return
        self._model.setUndoPoint()
        self._model.undo()

    def spoil(self) -> None:
        """Say that the model is not what the file holds (a feature was changed, which Mastodon does not count as a change)."""
        if self._places is not None:
            stack, _, saved = self._places
            saved.setInt(stack, NOWHERE)

    def saved_here(self) -> int | None:
        """Say that this is what the file holds; return which place was it before, for :meth:`not_saved`."""
        if self._places is None:
            return None
        stack, _, saved = self._places
        before = int(saved.getInt(stack))
        self._model.setSavePoint()
        return before

    def not_saved(self, before: int | None) -> None:
        """Writing failed: the place that was the saved one before is it again, unless undoing has made it unreachable."""
        if self._places is None or before is None:
            return
        stack, _, saved = self._places
        if int(saved.getInt(stack)) != NOWHERE:
            saved.setInt(stack, before)


def _value(owner: Any, name: str) -> Any:
    return _field(owner, name).get(owner)


def _field(owner: Any, name: str) -> Any:
    kind = owner.getClass()
    while kind is not None:
        for field in kind.getDeclaredFields():
            if str(field.getName()) == name:
                field.setAccessible(True)
                return field
        kind = kind.getSuperclass()
    raise LookupError(name)
