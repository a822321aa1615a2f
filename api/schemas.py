"""Shapes shared by all resources: text that is safe to store, opaque keys and cursors, pages, points in time."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Depends, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from api.problems import not_found
from sipserver.protocol.ids import is_key

T = TypeVar("T")

MAX_PAGE: Final = 500

# Control, surrogate and format characters (bidirectional overrides among them), line and paragraph separators:
# they break stores, logs and what people read.
_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Cf", "Zl", "Zp"})


def _plain(text: str) -> str:
    if any(unicodedata.category(char) in _FORBIDDEN for char in text):
        raise PydanticCustomError("text_control", "control characters are not allowed")
    return text


Plain = AfterValidator(_plain)
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Plain]
Username = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), Plain]
Password = Annotated[str, StringConstraints(min_length=1, max_length=256), Plain]
Purpose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), Plain]
SearchText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100), Plain]
AnyKey = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,5}_[A-Za-z0-9]{1,64}$")]

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items in one answer.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=512,
        pattern=r"^[A-Za-z0-9._~=-]*$",
        description="`next_cursor` of the previous page; leave out for the first.",
    ),
]
Instant = Annotated[str, Field(description="Point in time, UTC, RFC 3339.", examples=["2026-11-21T08:00:00.000Z"])]


def key_in_path(prefix: str, what: str) -> Callable[..., Awaitable[str]]:
    """A dependency for `{key}`: anything that is not the form of an opaque key is simply not found."""

    async def dependency(key: str = Path(description=f"Opaque key of the {what}.")) -> str:
        if not is_key(key, prefix):
            raise not_found()
        return key

    return dependency


ChannelPath = Annotated[str, Depends(key_in_path("chn", "channel"))]
DevicePath = Annotated[str, Depends(key_in_path("dev", "device"))]
UserPath = Annotated[str, Depends(key_in_path("usr", "user"))]
StreamPath = Annotated[str, Depends(key_in_path("lea", "stream"))]


class Body(BaseModel):
    """Base of request bodies: unknown members are errors, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


class PageOf(Answer, Generic[T]):
    """One page of a list."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"description": "One page of a list."})

    items: list[T]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last one.", examples=[None]
    )


class FieldError(Answer):
    """One field of the request that is wrong. Never repeats its value."""

    field: str = Field(examples=["body.gb_id"])
    type: str | None = Field(default=None, examples=["string_pattern_mismatch"])
    message: str = Field(examples=["The text does not have the required form."])


class ProblemOut(Answer):
    """An error (RFC 9457). `code` is stable; `articles` cite the regulations a refusal rests on."""

    type: str = Field(examples=["urn:mingjian:problem:e_purpose_invalid"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["E_PURPOSE_INVALID"])
    detail: str = Field(examples=["A purpose is required for every view."])
    articles: list[str] | None = Field(default=None, examples=[["N16"]])
    errors: list[FieldError] | None = None


def instant(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, from unix seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_or_none(at: float | None) -> str | None:
    return None if at is None else instant(at)


def slice_of(items: list[T], key: Callable[[T], str], cursor: str | None, limit: int) -> tuple[list[T], str | None]:
    """One page of a list that is small enough to be in memory; a cursor whose item is gone starts anew."""
    start = 0
    if cursor:
        start = next((index + 1 for index, item in enumerate(items) if key(item) == cursor), 0)
    chosen = items[start : start + limit]
    more = start + limit < len(items)
    return chosen, key(chosen[-1]) if more and chosen else None
