"""Who is calling: the actor, the call, and how code below the wire learns of them."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from uuid import UUID

from shared.errors import CredentialsMissing


class Role(IntEnum):
    """Roles of people and service accounts, rising; the numbers are those of the proto enum."""

    VIEWER = 1
    DEVELOPER = 2
    LEAD = 3
    ADMIN = 4

    @property
    def stored(self) -> str:
        """The spelling in the database."""
        return self.name.lower()

    @classmethod
    def from_stored(cls, text: str) -> "Role":
        """Return the role that the database spells `text`."""
        return cls[text.upper()]


class ActorKind(StrEnum):
    """Whether a person or a program acts; only people approve."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated caller, as its user row stood at most two seconds ago.

    `owner_id` is the person responsible for a service account, `on_behalf_of` the user it says it
    acts for. `session_id` is set for people who logged in; with `password_change_required` they may
    do little else.
    """

    user_id: UUID
    username: str
    role: Role
    kind: ActorKind = ActorKind.PERSON
    scopes: frozenset[str] = field(default_factory=frozenset)
    service_account_id: UUID | None = None
    owner_id: UUID | None = None
    on_behalf_of: UUID | None = None
    session_id: UUID | None = None
    password_change_required: bool = False

    @property
    def people(self) -> frozenset[UUID]:
        """Everybody behind the act: the user, a service account's owner, whom it acts for."""
        behind = (self.user_id, self.owner_id, self.on_behalf_of)
        return frozenset(user for user in behind if user is not None)


@dataclass(frozen=True, slots=True)
class Call:
    """The RPC being served: its full method name, where it came from and who made it.

    `ip_address` is the peer's, or the one a configured proxy forwarded; None over a Unix socket.
    """

    method: str
    request_id: str
    ip_address: str | None = None
    user_agent: str | None = None
    actor: Actor | None = None


current_call: ContextVar[Call] = ContextVar("current_call")


def caller() -> Actor:
    """Return who makes the current call; raises CredentialsMissing on an open RPC without one."""
    actor = current_call.get().actor
    if actor is None:
        raise CredentialsMissing
    return actor
