"""Freezing in a world, at times around the present one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import restrictions_pb2 as pb

from shared.ids import new_id
from tests.support.deployments import World

DENY, ALLOW = pb.FREEZE_KIND_DENY, pb.FREEZE_KIND_ALLOW


def at(**spans: int) -> Timestamp:
    """Return a time that lies this far ahead, or back."""
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(**spans))
    return moment


def once(opens: int = -1, closes: int = 1) -> pb.OnceSchedule:
    """Return a schedule that is open once, in hours from now."""
    return pb.OnceSchedule(opens_at=at(hours=opens), closes_at=at(hours=closes))


def daily() -> pb.WeeklySchedule:
    """Return a schedule that is always open."""
    days = [day for day in pb.Weekday.values() if day]
    return pb.WeeklySchedule(days=days, opens_at="00:00", closes_at="00:00")


def new_window(**given: Any) -> pb.CreateFreezeWindowRequest:
    """Return the request of a window that is open now and denies, unless told otherwise."""
    kind_of_schedule = {"once", "weekly", "recurring"} & given.keys()
    schedule = {} if kind_of_schedule else {"once": once()}
    name = f"Window w{new_id().hex}"
    usual: dict[str, Any] = {
        "name": name,
        "kind": DENY,
        "reason": "the end of the year",
        "time_zone": "UTC",
    }
    return pb.CreateFreezeWindowRequest(**(usual | schedule | given))


def corpus_windows(
    service: str, exempt: str, environment: str
) -> list[pb.CreateFreezeWindowRequest]:
    """Return two windows about an environment; the last has something in every list."""
    everything = new_window(
        name="corpus",
        environments=[environment],
        services=[service],
        teams=["Frontend"],
        environment_types=[1],
        exempt_services=[exempt],
        includes_rollbacks=True,
        # A day that is over: on a day of exception the window would never be open.
        exception_dates=["2001-01-01"],
    )
    return [new_window(environments=[environment]), everything]


async def freeze(
    world: World, *, who: str = "admin", **given: Any
) -> pb.CreateFreezeWindowResponse:
    """Create a window."""
    answer: pb.CreateFreezeWindowResponse = await world.call(
        who, "CreateFreezeWindow", new_window(**given)
    )
    return answer


async def refreeze(
    world: World, window: str, *, who: str = "admin", **given: Any
) -> pb.UpdateFreezeWindowResponse:
    """Change a window."""
    paths = given.pop("mask", None)
    request = pb.UpdateFreezeWindowRequest(window=window, **given)
    if paths is not None:
        request.update_mask.paths.extend(paths)
    answer: pb.UpdateFreezeWindowResponse = await world.call(who, "UpdateFreezeWindow", request)
    return answer


async def thaw(
    world: World, window: str, *, who: str = "admin", **more: Any
) -> pb.ArchiveFreezeWindowResponse:
    """Archive a window."""
    request = pb.ArchiveFreezeWindowRequest(window=window, **more)
    answer: pb.ArchiveFreezeWindowResponse = await world.call(who, "ArchiveFreezeWindow", request)
    return answer


async def freeze_again(
    world: World, window: str, *, who: str = "admin", **more: Any
) -> pb.UnarchiveFreezeWindowResponse:
    """Take a window out of the archive."""
    request = pb.UnarchiveFreezeWindowRequest(window=window, **more)
    answer: pb.UnarchiveFreezeWindowResponse = await world.call(
        who, "UnarchiveFreezeWindow", request
    )
    return answer


async def window_named(world: World, reference: str) -> pb.FreezeWindow:
    """Return a window by name or id."""
    request = pb.GetFreezeWindowRequest(window=reference)
    answer: pb.GetFreezeWindowResponse = await world.call("viewer1", "GetFreezeWindow", request)
    return answer.window


async def windows(world: World, **wanted: Any) -> list[pb.FreezeWindow]:
    """Return the windows that a list has for a request."""
    request = pb.ListFreezeWindowsRequest(**wanted)
    answer = await world.call("viewer1", "ListFreezeWindows", request)
    return list(answer.windows)
