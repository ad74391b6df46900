"""What every mapped table shares: names of constraints, and the columns all of them have."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Schema(DeclarativeBase):
    """Parent of all models. Names come from the convention, so errors can be told by name."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it from the class)
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
        str: Text(),
    }


class Row:
    """Columns of every table: a UUIDv7 made by the service, and two times kept by the database."""

    id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=101)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=102)


class Versioned(Row):
    """An aggregate: its version counts committed changes, each with exactly one audit entry."""

    row_version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), sort_order=100)
