"""What the catalog holds, as plain values. Field names are those of the columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from uuid import UUID


class ServiceTier(IntEnum):
    """How much depends on a service; the numbers are those of the proto enum."""

    TIER_1 = 1
    TIER_2 = 2
    TIER_3 = 3
    TIER_4 = 4

    @property
    def stored(self) -> str:
        """The spelling in the database."""
        return f"tier-{self.value}"

    @classmethod
    def from_stored(cls, text: str) -> "ServiceTier":
        """Return the tier that the database spells `text`."""
        return cls(int(text.removeprefix("tier-")))


class ServiceLifecycle(StrEnum):
    """How far a service has come; the values are the stored spelling."""

    EXPERIMENTAL = "experimental"
    PRODUCTION = "production"
    DEPRECATED = "deprecated"


class EnvironmentType(StrEnum):
    """What an environment is for; the values are the stored spelling."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class ReleaseStatus(StrEnum):
    """The last thing that happened to a release anywhere; the values are the stored spelling."""

    DRAFT = "draft"
    PUBLISHED = "published"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What every aggregate has: its id, its version (the `etag`) and two times."""

    id: UUID
    row_version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Archivable(Resource):
    """A resource that can be put away: hidden from lists, and nothing new can refer to it."""

    archived_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Team(Archivable):
    """People who own services together."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """What a service needs of another one; an empty version means any."""

    service_id: UUID
    service: str
    minimum_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Archivable):
    """A piece of software that is released, with the names of its team and its owner."""

    name: str
    description: str
    team_id: UUID
    team: str
    owner_id: UUID
    owner: str
    repository: str
    tier: str
    lifecycle: str
    labels: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Mapping[str, str], ...] = ()
    dependencies: tuple[Dependency, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Archivable):
    """A place where services run. Policy version 0 is the default of its type."""

    name: str
    description: str
    environment_type: str
    promotion_order: int
    policy_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Archivable):
    """A version of a service.

    `authors` is everybody behind its creation, its publication, and what it is made of.
    """

    service_id: UUID
    service: str
    version: str
    status: str
    commit_sha: str
    commit_time: datetime | None
    artifact_digest: str
    notes: str
    irreversible: bool
    created_by: UUID
    author: str
    authors: tuple[UUID, ...]
    published_at: datetime | None

    @property
    def name(self) -> str:
        """Service and version, as people write them: `auth@1.4.0`."""
        return f"{self.service}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook(Archivable):
    """What to do when something happens to a service; `content` is empty in lists.

    `version` is the published one that the rest shows, 0 for the draft of one that was never
    published. `has_draft` says that there is a draft beside it.
    """

    service_id: UUID
    service: str
    environment_id: UUID | None
    environment: str | None
    title: str
    content: str
    tags: tuple[str, ...]
    created_by: UUID
    author: str
    version: int = 0
    published_at: datetime | None = None
    has_draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookVersion:
    """A version of a runbook, 0 being the draft."""

    runbook_id: UUID
    version: int
    environment_id: UUID | None
    environment: str | None
    title: str
    content: str
    tags: tuple[str, ...]
    created_by: UUID
    author: str
    created_at: datetime
    published_at: datetime | None


class RunbookOutcome(StrEnum):
    """How the work through a runbook ended; the values are the stored spelling."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecution:
    """That somebody has worked through a version of a runbook, and how it went."""

    id: UUID
    runbook_id: UUID
    version: int
    environment_id: UUID | None
    deployment_id: UUID | None
    outcome: str
    notes: str
    executed_by: UUID
    executor: str
    started_at: datetime
    finished_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Resource):
    """A person, or the user that stands for a service account. Never with its password hash."""

    username: str
    email: str
    full_name: str
    role: str
    active: bool
    kind: str
    team_id: UUID | None
    team: str | None
    password_change_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A log-in and what was refreshed from it."""

    id: UUID
    user_id: UUID
    created_at: datetime
    revoked_at: datetime | None
    refreshed_at: datetime | None = None
    ip_address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount(Resource):
    """A program that calls this product; role and active state are those of its user."""

    name: str
    description: str
    user_id: UUID
    owner_id: UUID
    owner: str
    role: str
    scopes: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A credential of a service account, without the credential."""

    id: UUID
    service_account_id: UUID
    description: str
    prefix: str
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What logging in needs of a user; the hash never leaves the process."""

    user_id: UUID
    username: str
    password_hash: str | None = field(repr=False)
    may_log_in: bool
    row_version: int
