"""Between the messages of sessions and the values of this service."""

from datetime import timedelta

from release_manager.identity.v1 import identity_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.messages_identity.users import user
from services.catalog.operations.sessions import Started
from services.catalog.rules.resources import Session
from shared.identity.actor import Actor


def logged_in(started: Started | None) -> pb.LoginResponse:
    """Return the answer to a log-in."""
    return pb.LoginResponse(session=_started(started))


def refreshed(started: Started | None) -> pb.RefreshResponse:
    """Return the answer to a refresh."""
    return pb.RefreshResponse(session=_started(started))


def logged_out(_: None) -> pb.LogoutResponse:
    """Return the answer to a log-out."""
    return pb.LogoutResponse()


def password_changed(_: None) -> pb.ChangePasswordResponse:
    """Return the answer to a changed password."""
    return pb.ChangePasswordResponse()


def session(value: Session, lifetime: timedelta, actor: Actor) -> pb.UserSession:
    """Return a session as a message to `actor`; it ends after `lifetime`."""
    return pb.UserSession(
        id=str(value.id),
        user_id=str(value.user_id),
        created_at=timestamp(value.created_at),
        refreshed_at=timestamp(value.refreshed_at),
        expires_at=timestamp(value.created_at + lifetime),
        ip_address=value.ip_address or "",
        user_agent=value.user_agent or "",
        current=value.id == actor.session_id,
    )


def session_revoked(_: None) -> pb.RevokeSessionResponse:
    """Return the answer to a revocation."""
    return pb.RevokeSessionResponse()


def _started(started: Started | None) -> pb.Session | None:
    """Return a session as a message; None for a refusal, whose answer nobody sees."""
    if started is None:
        return None
    return pb.Session(
        access_token=started.access.text,
        access_token_expires_at=timestamp(started.access.expires_at),
        refresh_token=started.refresh.text,
        refresh_token_expires_at=timestamp(started.ends_at),
        user=user(started.user),
    )
