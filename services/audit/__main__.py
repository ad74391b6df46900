"""Run the audit service: `python -m services.audit`."""

import sys

from services.audit.app import audit_server
from shared.rpc.program import run_service

if __name__ == "__main__":
    sys.exit(run_service(audit_server, lambda settings: settings.audit_address))
