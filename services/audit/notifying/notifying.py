"""Webhooks put together: who changes them, who sends, and who tries one out."""

from dataclasses import dataclass
from datetime import timedelta

from services.audit.notifying.entries import Entries
from services.audit.notifying.notifier import Notifier
from services.audit.notifying.reading import Windows
from services.audit.notifying.receivers import Receivers
from services.audit.notifying.sender import Sending
from services.audit.notifying.trying import Trying
from services.audit.notifying.webhooks import Webhooks
from services.audit.reading.entries import Reading
from services.audit.reading.head_watch import HeadWatch
from services.audit.rules.webhook_retries import Patience
from services.audit.rules.webhook_targets import Targets
from services.audit.signing.integrator import Integrator
from shared.clock import Clock
from shared.db.engine import Database
from shared.paging import PageTokens
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Notifying:
    """Everything about webhooks that one process has."""

    webhooks: Webhooks
    trying: Trying
    notifier: Notifier
    receivers: Receivers

    @classmethod
    def of(  # noqa: PLR0913  (what it is made of)
        cls,
        settings: Settings,
        databases: tuple[Database, Database],
        watch: HeadWatch,
        integrator: Integrator,
        *,
        secret: bytes,
        clock: Clock,
    ) -> "Notifying":
        """Put it together; the databases are under the notifier's and the reader's role."""
        database, reader = databases
        targets = Targets(frozenset(settings.webhook_allowed_hosts), settings.webhook_allow_http)
        tokens, entries = PageTokens(secret), Entries(secret, clock)
        receivers = Receivers(targets, settings.webhook_timeout_seconds)
        sending = Sending(
            database=database,
            windows=Windows(reader),
            receivers=receivers,
            entries=entries,
            clock=clock,
            patience=Patience(
                timedelta(hours=settings.webhook_retry_hours),
                timedelta(hours=settings.webhook_pause_hours),
            ),
            secret=secret,
            source=settings.webhook_source,
        )
        return cls(
            Webhooks(database, tokens, entries, targets, secret=secret, clock=clock),
            Trying(sending, Reading(reader, tokens), watch, integrator),
            Notifier(sending, watch),
            receivers,
        )

    def start(self) -> None:
        """Begin to send."""
        self.notifier.start()

    async def stop(self) -> None:
        """End what is under way."""
        await self.webhooks.changing.settle()
        await self.notifier.stop()
        await self.receivers.close()
