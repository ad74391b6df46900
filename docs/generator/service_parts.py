"""What an operator sets and watches: settings and metrics."""

import importlib
import sys

from prometheus_client.metrics import MetricWrapperBase

from docs.generator.blocks import table as markdown
from shared.settings import Settings

# Importing a service's composition root imports all that it is made of.
_ROOTS = ("services.audit.app", "services.catalog.app", "services.deployment.app")
_OURS = ("services.", "shared.")
_SUFFIX = {"counter": "_total"}


def settings_part() -> str:
    """Return a table of all settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = str(field.validation_alias or name).upper()
        default = field.default
        if isinstance(default, bool):
            default = str(default).lower()
        value = "" if default in (None, ()) else f"`{default}`"
        rows.append((f"`{shown}`", value, field.description or ""))
    return markdown(("Setting", "Default", "Meaning"), rows)


def metrics_part() -> str:
    """Return a table of the metrics that the modules of the services define."""
    for root in _ROOTS:
        importlib.import_module(root)
    metrics = {
        metric.name: metric
        for name, module in list(sys.modules.items())
        if name.startswith(_OURS)
        for value in vars(module).values()
        if isinstance(value, MetricWrapperBase)
        for metric in value.collect()
    }
    rows = [
        (f"`{name}{_SUFFIX.get(metric.type, '')}`", metric.type, metric.documentation.rstrip("."))
        for name, metric in sorted(metrics.items())
    ]
    return markdown(("Metric", "Type", "What it counts"), rows)
