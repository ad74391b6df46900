"""Run the deployment service: `python -m services.deployment`."""

import sys

from services.deployment.app import deployment_server
from shared.rpc.program import run_service


def main() -> int:
    """Serve until a signal; return 2 when an operator must change something."""
    return run_service(deployment_server, lambda settings: settings.deployment_address)


if __name__ == "__main__":
    sys.exit(main())
