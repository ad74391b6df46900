"""Calls of the identity service by the names of RPCs and fields, and people made for a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from shared.domain_error import DomainError
from tests.rpc.catalog.conftest import refusal
from tests.support.platform import Platform, bearer

FIRST, SECOND, THIRD = "first words to enter", "second words to enter", "third words to enter"


@dataclass(frozen=True)
class Identities:
    """The identity service of a running product, called by people or with a session."""

    platform: Platform

    async def call(self, rpc: str, by: Any = "admin", /, **fields: Any) -> Any:
        """Call an RPC as a seeded user, with a session, or as nobody (None)."""
        mask: Sequence[str] | None = fields.pop("mask", None)
        request = getattr(pb, f"{rpc}Request")(**fields)
        if mask is not None:
            request.update_mask.CopyFrom(FieldMask(paths=mask))
        metadata: Any = ()
        if isinstance(by, str):
            metadata = await self.platform.person(by)
        elif isinstance(by, tuple):
            metadata = by
        elif by is not None:
            metadata = bearer(by.access_token)
        return await getattr(self.platform.identity, rpc)(request, metadata=metadata)

    async def refused(self, rpc: str, by: Any = "admin", /, **fields: Any) -> DomainError:
        """Call an RPC and return the error that it ends with."""
        return await refusal(self.call(rpc, by, **fields))

    async def create(self, by: Any = "admin", /, **facts: Any) -> Any:
        """Make a person under a name of its own, and return the answer."""
        name = f"p{uuid4().hex[:12]}"
        usual = {
            "username": name,
            "email": f"{name}@people.example.com",
            "role": access_pb2.ROLE_DEVELOPER,
            "password": FIRST,
        }
        return await self.call("CreateUser", by, **(usual | facts))

    async def refused_creation(self, **facts: Any) -> DomainError:
        """Try to make a person, and return the error."""
        return await refusal(self.create(**facts))

    async def person(self, **facts: Any) -> Any:
        """Make a person who has changed the first password into the second one."""
        user = (await self.create(**facts)).user
        session = await self.log_in(user.username, FIRST)
        change = {"current_password": FIRST, "new_password": SECOND}
        await self.call("ChangePassword", session, **change)
        return user

    async def log_in(self, username: str, password: str = SECOND) -> Any:
        """Return a new session."""
        return (await self.call("Login", None, username=username, password=password)).session

    async def get(self, user: str) -> Any:
        """Return a user."""
        return (await self.call("GetUser", "viewer1", user=user)).user
