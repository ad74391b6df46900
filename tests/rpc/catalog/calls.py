"""Calls of the catalog service by the names of RPCs and fields, and the things they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from release_manager.catalog.v1 import catalog_pb2 as pb

from shared.domain_error import DomainError
from tests.rpc.catalog.conftest import refusal
from tests.support.platform import Platform

COMMIT, DIGEST = "0123456789abcdef", "sha256:" + "0" * 64
KINDS = ("team", "service", "environment", "release", "runbook")


def fresh(prefix: str = "x") -> str:
    """Return a name that nothing has yet, which any kind may have."""
    return f"{prefix}{uuid4().hex[:12]}"


@dataclass(frozen=True)
class Catalog:
    """The catalog service of a running product, called by people."""

    platform: Platform

    async def call(self, rpc: str, by: str = "admin", /, **fields: Any) -> Any:
        """Call an RPC; `mask` is the update mask as a list of paths."""
        mask: Sequence[str] | None = fields.pop("mask", None)
        request = getattr(pb, f"{rpc}Request")(**fields)
        if mask is not None:
            request.update_mask.CopyFrom(FieldMask(paths=mask))
        metadata = await self.platform.person(by)
        return await getattr(self.platform.catalog, rpc)(request, metadata=metadata)

    async def refused(self, rpc: str, by: str = "admin", /, **fields: Any) -> DomainError:
        """Call an RPC and return the error that it ends with."""
        return await refusal(self.call(rpc, by, **fields))

    async def do(
        self, verb: str, kind: str, reference: str, by: str = "admin", /, **fields: Any
    ) -> Any:
        """Do something with a thing, such as `do("Archive", "team", id)`, and return the thing."""
        answer = await self.call(f"{verb}{kind.title()}", by, **{kind: reference}, **fields)
        return getattr(answer, kind, answer)

    async def make(self, kind: str, by: str = "admin", /, **facts: Any) -> Any:
        """Make a thing under a name of its own, with other facts where they are given."""
        usual: dict[str, dict[str, Any]] = {
            "team": {"name": fresh()},
            "service": {"name": fresh(), "team": "Platform"},
            "environment": {
                "name": fresh(),
                "type": pb.ENVIRONMENT_TYPE_DEV,
                "promotion_order": 900,
            },
            "release": {"service": "gateway", "version": fresh("9.")},
            "runbook": {"service": "auth", "title": fresh(), "content": "Stay calm."},
        }
        answer = await self.call(f"Create{kind.title()}", by, **(usual[kind] | facts))
        return getattr(answer, kind)

    async def get(self, kind: str, reference: str, /, **more: Any) -> Any:
        """Return a thing."""
        return await self.do("Get", kind, reference, "viewer1", **more)

    async def published(self, service: str, version: str, **facts: Any) -> Any:
        """Make and publish a release."""
        facts = {"commit": COMMIT, "artifact_digest": DIGEST, **facts}
        made = await self.make("release", service=service, version=version, **facts)
        return await self.do("Publish", "release", made.id)

    async def listed(self, kinds: str, **asked: Any) -> list[Any]:
        """Return everything that a list has for a request, page by page."""
        found: list[Any] = []
        token = ""
        while True:
            answer = await self.call(f"List{kinds}", "viewer1", page_token=token, **asked)
            found += getattr(answer, answer.DESCRIPTOR.fields[0].name)
            token = answer.next_page_token
            if not token:
                return found
