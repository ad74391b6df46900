"""What an operator sets, watches and finds refused: settings, metrics, calls during a backlog."""

import importlib
import sys

from google.protobuf.descriptor_pb2 import ServiceDescriptorProto
from prometheus_client.metrics import MetricWrapperBase
from release_manager.common.v1 import access_pb2

from docs.generator.blocks import table as markdown
from docs.generator.contract import protos
from shared.settings import Settings

# Importing a service's composition root imports all that it is made of.
_ROOTS = ("services.audit.app", "services.catalog.app", "services.deployment.app")
_OURS = ("services.", "shared.")
_SUFFIX = {"counter": "_total"}
_DURING_BACKLOG = {
    "Refused beyond the soft limit": access_pb2.DURING_AUDIT_BACKLOG_REFUSE,
    "Refused beyond the hard limit": access_pb2.DURING_AUDIT_BACKLOG_CONTINUE,
    "Never refused": access_pb2.DURING_AUDIT_BACKLOG_ALLOW,
}


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


def backlog_part() -> str:
    """Return a table of the calls that the contract has refused while the ledger lags, or not."""
    rows = []
    for proto in protos():
        for service in proto.file.service:
            cells = [_calls(service, rule) for rule in _DURING_BACKLOG.values()]
            if any(cells):
                rows.append((f"`{service.name}`", *cells))
    return markdown(("Service", *_DURING_BACKLOG), rows)


def _calls(service: ServiceDescriptorProto, rule: int) -> str:
    names = [
        f"`{method.name}`"
        for method in service.method
        if method.options.Extensions[access_pb2.during_audit_backlog] == rule
    ]
    return ", ".join(names)
