"""The audit ledger: its entries, its head, the keys of events, and the Merkle tree over them."""

from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Schema

HAS_AGGREGATE = text("aggregate IS NOT NULL")


class AuditLog(Schema):
    """An entry. Rows are inserted by the function `audit_append`; only a redaction changes them.

    `salt`, `event_digest` and `leaf_hash` are described in `services.audit.rules.leaf`. `id` is
    made from `created_at` and `leaf_index`, so all three have one order.
    """

    __tablename__ = "audit_logs"
    __table_args__ = (
        CheckConstraint("category IN ('change', 'access', 'security')", name="category"),
        CheckConstraint("(aggregate IS NULL) = (aggregate_seq IS NULL)", name="aggregate"),
        CheckConstraint(
            "octet_length(event_digest) = 32 AND octet_length(leaf_hash) = 32", name="digests"
        ),
        Index(None, "leaf_index"),
        Index(None, "user_id", "leaf_index"),
        Index(
            "ix_audit_logs_resource_type_resource_id", "resource_type", "resource_id", "leaf_index"
        ),
        Index(None, "action", "leaf_index"),
        Index(None, "category", "leaf_index"),
        Index(None, "producer", "leaf_index"),
        Index(None, "resource_type", "leaf_index"),
        Index(None, "resource_id", "leaf_index"),
        Index(
            "ix_audit_logs_details",
            "details",
            postgresql_using="gin",
            postgresql_ops={"details": "jsonb_path_ops"},
            postgresql_with={"gin_pending_list_limit": "512"},
        ),
        Index(None, "created_at"),
        Index(
            "ix_audit_logs_producer_aggregate",
            *("producer", "aggregate", "aggregate_seq"),
            postgresql_where=HAS_AGGREGATE,
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    leaf_index: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[UUID]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    action: Mapped[str] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    ip_address: Mapped[IPv4Address | IPv6Address | None] = mapped_column(INET)
    user_agent: Mapped[str | None] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    producer: Mapped[str] = mapped_column(Text)
    aggregate: Mapped[str | None] = mapped_column(Text)
    aggregate_seq: Mapped[int | None] = mapped_column(BigInteger)
    occurred_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    leaf_version: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    event_digest: Mapped[bytes] = mapped_column(LargeBinary)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    redactions: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class AuditLogHead(Schema):
    """The one row that whoever appends must lock: the next leaf index and the newest time.

    `origin` and `epoch` name the log in its checkpoints.
    """

    __tablename__ = "audit_log_head"
    __table_args__ = (
        CheckConstraint("id = 1", name="single"),
        CheckConstraint("next_index >= 0", name="next_index"),
        {"postgresql_with": {"fillfactor": "10"}},
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"))
    origin: Mapped[str] = mapped_column(Text)
    epoch: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_index: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_at: Mapped[datetime]


class AuditEventKey(Schema):
    """What is known of each event: where it is, and a keyed digest of what its producer sent.

    `request_mac` tells a repetition from another event under the same id. `seen_at` is written
    again by every repetition.
    """

    __tablename__ = "audit_event_keys"
    __table_args__ = (
        CheckConstraint("(aggregate IS NULL) = (aggregate_seq IS NULL)", name="aggregate"),
        CheckConstraint("octet_length(request_mac) = 32", name="request_mac"),
        Index(
            "uq_audit_event_keys_producer_aggregate_aggregate_seq",
            *("producer", "aggregate", "aggregate_seq"),
            unique=True,
            postgresql_where=HAS_AGGREGATE,
        ),
        {"postgresql_with": {"fillfactor": "90"}},
    )

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    producer: Mapped[str] = mapped_column(Text)
    aggregate: Mapped[str | None] = mapped_column(Text)
    aggregate_seq: Mapped[int | None] = mapped_column(BigInteger)
    leaf_index: Mapped[int] = mapped_column(BigInteger)
    audit_log_id: Mapped[UUID]
    request_mac: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class MerkleTile(Schema):
    """Hashes of the tree, up to 256 neighbours of one level; see `services.audit.rules.tiles`.

    A tile only gets longer.
    """

    __tablename__ = "merkle_tiles"
    __table_args__ = (
        CheckConstraint("level BETWEEN 0 AND 7 AND tile >= 0", name="place"),
        CheckConstraint(
            "octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0",
            name="hashes",
        ),
    )

    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    tile: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class AuditCheckpoint(Schema):
    """A signed state of the tree, under the name of its epoch. Rows are added and never change."""

    __tablename__ = "audit_checkpoints"
    __table_args__ = (
        PrimaryKeyConstraint("epoch", "tree_size"),
        CheckConstraint("tree_size >= 0", name="tree_size"),
        CheckConstraint("octet_length(root) = 32", name="root"),
    )

    tree_size: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    epoch: Mapped[int] = mapped_column(
        ForeignKey("audit_epochs.epoch", ondelete="RESTRICT"),
        autoincrement=False,
        server_default=text("0"),
    )


class AuditEpoch(Schema):
    """A time during which the ledger is signed under one name; the entry at `leaf_index` began it.

    Checkpoints of earlier epochs hold up to `fork` entries; `note` is the last of them that was
    published. Rows are inserted by the function `audit_new_epoch` and never change.
    """

    __tablename__ = "audit_epochs"
    __table_args__ = (
        UniqueConstraint("origin"),
        CheckConstraint("epoch >= 0", name="epoch"),
        CheckConstraint(
            "(epoch = 0) = (leaf_index IS NULL) AND (epoch = 0) = (fork IS NULL)", name="first"
        ),
        CheckConstraint("fork BETWEEN 0 AND leaf_index", name="fork"),
    )

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(Text)
    leaf_index: Mapped[int | None] = mapped_column(BigInteger)
    fork: Mapped[int | None] = mapped_column(BigInteger)
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AuditLegalHold(Schema):
    """Entries that may be neither redacted nor retired; NULL in the filter matches all.

    Rows are added and released by functions, and never deleted.
    """

    __tablename__ = "audit_legal_holds"
    __table_args__ = (
        CheckConstraint(
            "num_nulls(released_at, released_by, released_because) IN (0, 3)", name="released"
        ),
        Index("uq_audit_legal_holds_name", text("lower(name)"), unique=True),
        Index(None, "user_id"),
        Index(None, "placed_by"),
        Index(None, "released_by"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    action: Mapped[str | None] = mapped_column(Text)
    resource_type: Mapped[str | None] = mapped_column(Text)
    resource_id: Mapped[str | None] = mapped_column(Text)
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    producer: Mapped[str | None] = mapped_column(Text)
    category: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    reason: Mapped[str] = mapped_column(Text)
    placed_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    released_at: Mapped[datetime | None]
    released_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    released_because: Mapped[str | None] = mapped_column(Text)


class AuditRetirement(Schema):
    """A month whose entries leave the ledger, announced by the entry at `leaf_index`.

    They are gone once `dropped_at` is set, which happens once.
    """

    __tablename__ = "audit_retirements"
    __table_args__ = (
        CheckConstraint("extract(day FROM month) = 1", name="month"),
        CheckConstraint(
            "first_index >= 0 AND first_index < end_index AND end_index <= leaf_index",
            name="interval",
        ),
    )

    month: Mapped[date] = mapped_column(primary_key=True)
    first_index: Mapped[int] = mapped_column(BigInteger)
    end_index: Mapped[int] = mapped_column(BigInteger)
    leaf_index: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    dropped_at: Mapped[datetime | None]


class AuditKeptEntry(Schema):
    """A row of a dropped month that other entries are judged by, as JSON object of its columns."""

    __tablename__ = "audit_kept_entries"

    leaf_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry: Mapped[dict[str, Any]] = mapped_column(JSONB)
