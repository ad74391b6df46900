"""Freeze windows on the whole product: what the other two services see of them."""

from typing import Any

import pytest
from release_manager.deployment.v1 import restrictions_pb2 as pb

from shared.errors import ResourceReferenced
from tests.rpc.catalog.calls import Catalog
from tests.rpc.deployment.conftest import missing, told
from tests.support.freezing import new_window

pytestmark = pytest.mark.asyncio(loop_scope="session")

KINDS = ("service", "team", "environment")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_window_names_is_not_deleted(catalog: Catalog, kind: str) -> None:
    """Without the last of them the window would be about every one of its kind."""
    platform = catalog.platform
    made = await catalog.make(kind)
    about: dict[str, Any] = {f"{kind}s": [made.name]}
    admin = await platform.person("admin")
    answer = await platform.restrictions.CreateFreezeWindow(new_window(**about), metadata=admin)
    window = answer.window
    error = await catalog.refused(f"Delete{kind.capitalize()}", **{kind: made.id})
    assert isinstance(error, ResourceReferenced)
    assert "a freeze window" in str(error)
    (entry,) = await told(platform, "freeze_window", window.id, answer.audit.event_ids[0])
    assert (entry.action, entry.aggregate_seq) == ("create", 1)
    details: Any = entry.details
    assert details["after"][f"{kind}s"] == [made.name]
    emptied = pb.UpdateFreezeWindowRequest(window=window.id, environments=["dev"])
    emptied.update_mask.paths.extend(["environments", f"{kind}s"])
    emptied.once.CopyFrom(window.once)
    await platform.restrictions.UpdateFreezeWindow(emptied, metadata=admin)
    await catalog.do("Delete", kind, made.id)
    gone = pb.ArchiveFreezeWindowRequest(window=window.id)
    await platform.restrictions.ArchiveFreezeWindow(gone, metadata=admin)
    assert await missing(platform) == 0
