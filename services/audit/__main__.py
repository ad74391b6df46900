"""Run the audit service: `python -m services.audit`."""

import sys

from services.audit.app import audit_server
from shared.rpc.program import run_service


def main() -> int:
    """Serve until a signal; return 2 when an operator must change something."""
    return run_service(audit_server, lambda settings: settings.audit_address)


if __name__ == "__main__":
    sys.exit(main())
