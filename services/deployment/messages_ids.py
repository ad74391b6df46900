"""Ids in messages: text, which is empty for none."""

from uuid import UUID


def optional_id(text: str) -> UUID | None:
    """Return the id that a field of a request names, None when it names none."""
    return UUID(text) if text else None


def id_text(value: UUID | None) -> str:
    """Return an id for a message."""
    return "" if value is None else str(value)
