"""The deployments of the sample data: payment stumbles twice in Dev, auth is on its way to Prod."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from seed.rows import Row, Rows, stamped
from seed.story import Report, Story
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.stages import StageStatus
from shared.ids import new_id_at

ERRORS_AFTER_INVOICES: Final = "Refunds fail with error 500 since the invoices are rendered as PDF"
DEPLOY_TIMED_OUT: Final = "The new worker never becomes ready, and charges wait in the queue"


def _pipeline(artifact: str, deploy: Report | None = None) -> Sequence[Report]:
    return (
        Report("build", 4, f"Built {artifact}"),
        Report("test", 7, "All tests passed"),
        deploy or Report("deploy", 3, f"{artifact} is ready on 3 of 3 instances"),
    )


def deployments(rows: Rows, now: datetime) -> None:
    """Add 8 deployments, 5 approvals, 2 rollbacks, 15 stages and 8 metrics to a catalog's rows."""
    story = Story(rows)
    rows["deployment_metrics"] = []
    _payment(story, now)
    _auth(story, now)


def _payment(story: Story, now: datetime) -> None:
    """In Dev: 1.0.0 works, 1.1.0 is rolled back, 1.2.0 fails and is being rolled back."""
    promote = DeploymentKind.PROMOTE
    at = now - timedelta(days=24)
    first = story.request("payment@1.0.0", "Dev", "dev1", at, kind=promote)
    end = story.run(first, at + timedelta(minutes=1), _pipeline("payment 1.0.0"))
    _measure(story, first, end, ("build_duration", 238.0, "s"), ("test_coverage", 87.4, "%"))

    at = now - timedelta(days=17)
    second = story.request("payment@1.1.0", "Dev", "dev2", at, kind=promote)
    end = story.run(second, at + timedelta(minutes=1), _pipeline("payment 1.1.0"))
    _measure(story, second, end, ("error_rate", 4.2, "%"), ("latency_p99", 812.0, "ms"))
    at = end + timedelta(hours=3)
    back = story.roll_back(second, "dev2", at, ERRORS_AFTER_INVOICES)
    story.finish(back, at + timedelta(minutes=4))

    at = now - timedelta(hours=2)
    third = story.request("payment@1.2.0", "Dev", "dev1", at, kind=promote)
    failed = Report("deploy", 15, "0 of 3 instances became ready in 15 min", StageStatus.FAILED)
    end = story.run(third, at + timedelta(minutes=1), _pipeline("payment 1.2.0", failed))
    _measure(story, third, end, ("instances_ready", 0.0, "count"))
    story.roll_back(third, "dev1", now - timedelta(minutes=40), DEPLOY_TIMED_OUT)


def _auth(story: Story, now: datetime) -> None:
    """2.3.0 has been through Dev and Staging and waits for approvals in Prod."""
    promote = DeploymentKind.PROMOTE
    at = now - timedelta(days=6)
    dev = story.request("auth@2.3.0", "Dev", "dev1", at, kind=promote)
    end = story.run(dev, at + timedelta(minutes=2), _pipeline("auth 2.3.0"))
    _measure(story, dev, end, ("test_coverage", 91.0, "%"))

    at = now - timedelta(days=5)
    staging = story.request("auth@2.3.0", "Staging", "dev2", at, kind=promote)
    story.approve(staging, "lead1", at + timedelta(minutes=30), "Looks good")
    story.approve(staging, "dev3", at + timedelta(minutes=50), "The dashboard's log-in works")
    end = story.run(staging, at + timedelta(hours=1), _pipeline("auth 2.3.0"))
    _measure(story, staging, end, ("error_rate", 0.1, "%"), ("latency_p99", 143.0, "ms"))

    at = now - timedelta(hours=5)
    prod = story.request("auth@2.3.0", "Prod", "dev2", at, kind=DeploymentKind.DEPLOY)
    story.approve(prod, "lead1", now - timedelta(hours=3), "No incident in Staging")
    story.ask(prod, "lead2", at)
    story.ask(prod, "dev3", at)


def _measure(story: Story, deployment: Row, at: datetime, *metrics: tuple[str, float, str]) -> None:
    for name, value, unit in metrics:
        row = {
            "id": new_id_at(at),
            "deployment_id": deployment["id"],
            "metric_name": name,
            "metric_value": value,
            "unit": unit,
        }
        story.rows["deployment_metrics"].append(stamped(row, at))
