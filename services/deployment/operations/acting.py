"""The account that acts, as it is in the transaction: calls know it as it was a moment before."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.store import locks
from shared.errors import NotPermitted
from shared.identity.actor import Actor, Role


async def role(tx: AsyncConnection, actor: Actor, action: str, *, hold: bool) -> Role:
    """Return the role in which `actor` may do what needs one; NotPermitted names the `action`.

    With `hold` the account stays as it is, so this comes after what is held before people are.
    Raises NotPermitted when the account is not active any more.
    """
    found = await locks.active_role(tx, actor.user_id, hold=hold)
    if found is None:
        raise NotPermitted(action=action, because="your account is not active")
    return Role.from_stored(found)
