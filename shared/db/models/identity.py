"""Tables of who acts: users, sessions, service accounts. The catalog service owns them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Row, Schema, Versioned

EMPTY = text("''")


class User(Versioned, Schema):
    """A person, or the user that stands for a service account and has no password."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_username", text("lower(username)"), unique=True),
        Index("uq_users_email", text("lower(email)"), unique=True),
        Index(None, "team_id"),
        Index(None, "role"),
        Index(None, "created_at"),
        Index(None, "updated_at"),
        Index("ix_users_full_name", text("lower(full_name)")),
        CheckConstraint("role IN ('viewer', 'developer', 'lead', 'admin')", name="role"),
        CheckConstraint("kind IN ('person', 'service')", name="kind"),
        CheckConstraint("(kind = 'person') = (password_hash IS NOT NULL)", name="password"),
        CheckConstraint("kind = 'person' OR NOT password_change_required", name="password_change"),
    )

    team_id: Mapped[UUID | None] = mapped_column(ForeignKey("teams.id", ondelete="RESTRICT"))
    username: Mapped[str]
    email: Mapped[str]
    full_name: Mapped[str] = mapped_column(server_default=EMPTY)
    password_hash: Mapped[str | None]
    role: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default=text("'person'"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    demoted_at: Mapped[datetime | None]
    password_change_required: Mapped[bool] = mapped_column(server_default=text("false"))


class Session(Versioned, Schema):
    """A log-in and everything refreshed from it; revoking it ends all its tokens."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "user_id"),
        Index(None, "created_at"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_because IS NULL)", name="revoked"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    revoked_at: Mapped[datetime | None]
    revoked_because: Mapped[str | None]
    ip_address: Mapped[str | None]
    user_agent: Mapped[str | None]
    refreshed_at: Mapped[datetime | None]


class RefreshToken(Row, Schema):
    """A refresh token, stored as its SHA-256; used once, and soon known by its family alone."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        UniqueConstraint("token_hash"),
        Index(None, "session_id", "used_at"),
        Index(None, "family"),
        Index(None, "expires_at"),
        CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
        CheckConstraint("octet_length(family) = 32", name="family"),
    )

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    family: Mapped[bytes | None] = mapped_column(LargeBinary)


class ServiceAccount(Versioned, Schema):
    """A program that calls this product; its role and state are those of its user."""

    __tablename__ = "service_accounts"
    __table_args__ = (
        UniqueConstraint("user_id"),
        Index("uq_service_accounts_name", text("lower(name)"), unique=True),
        Index(None, "owner_id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=EMPTY)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))


class ApiToken(Row, Schema):
    """A credential of a service account, stored as its SHA-256."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        UniqueConstraint("token_hash"),
        Index("ix_api_tokens_service_account_id", "service_account_id", "created_at"),
        Index(None, "created_by"),
        CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
    )

    service_account_id: Mapped[UUID] = mapped_column(
        ForeignKey("service_accounts.id", ondelete="CASCADE")
    )
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    description: Mapped[str]
    prefix: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class LoginThrottle(Schema):
    """Failed log-ins to an account: from one source, or from all of them (an empty source)."""

    __tablename__ = "login_throttles"
    __table_args__ = (
        Index(None, "updated_at"),
        CheckConstraint("failures >= 0 AND refused >= 0 AND suppressed >= 0", name="counts"),
        CheckConstraint("recorded IN ('delay', 'stop')", name="recorded"),
    )

    account: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    refused: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    compared_at: Mapped[list[datetime]] = mapped_column(
        ARRAY(DateTime(timezone=True)), server_default=text("'{}'")
    )
    delayed_until: Mapped[datetime | None]
    locked_at: Mapped[datetime | None]
    recorded: Mapped[str | None]
    reported_at: Mapped[datetime | None]
    suppressed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
