"""Pages on the wire: tokens in, tokens out, bound to method, caller and every other field."""

from typing import Any, Protocol

from google.protobuf.message import Message

from services.catalog.rules.pages import Page, PageRequest
from shared.identity.actor import caller, current_call
from shared.paging import PageTokens, page_size


class ListRequest(Protocol):
    """What the requests of all lists have in common."""

    @property
    def page_size(self) -> int:
        """How many entries are asked for; 0 leaves it to the server."""

    @property
    def page_token(self) -> str:
        """The token of the page before; empty for the first one."""


class Paging:
    """Reads where a list goes on, and writes it."""

    def __init__(self, tokens: PageTokens) -> None:
        """Make and read tokens by `tokens`."""
        self._tokens = tokens

    def wanted(self, request: ListRequest) -> PageRequest:
        """Return the page a request asks for; raises PageTokenInvalid."""
        size = page_size(request.page_size)
        if not request.page_token:
            return PageRequest(size)
        method, user_id = current_call.get().method, caller().user_id
        query = _query(request)
        return PageRequest(size, self._tokens.decode(method, user_id, query, request.page_token))

    def next_token(self, request: ListRequest, page: Page[Any]) -> str:
        """Return the token of the page after this one, empty at the end."""
        if page.last is None:
            return ""
        method, user_id = current_call.get().method, caller().user_id
        return self._tokens.encode(method, user_id, _query(request), page.last)


def _query(request: Any) -> bytes:  # noqa: ANN401  (the request of any list)
    """Return what must stay the same from page to page: all but the size and the token."""
    copy: Message = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("page_size")
    copy.ClearField("page_token")
    return copy.SerializeToString(deterministic=True)
