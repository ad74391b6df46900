"""Run the deployment service: `python -m services.deployment`."""

import sys

from services.deployment.app import deployment_server
from shared.rpc.program import run_service

if __name__ == "__main__":
    sys.exit(run_service(deployment_server, lambda settings: settings.deployment_address))
