"""The deployment service and, on the same server, an RPC that does nothing; see `nothing`."""

import sys
from functools import partial

from benchmarks.nothing import and_nothing
from services.deployment.app import deployment_server
from shared.rpc.program import run_service


def main() -> int:
    """Serve until a signal."""
    served = partial(and_nothing, deployment_server)
    return run_service(served, lambda settings: settings.deployment_address)


if __name__ == "__main__":
    sys.exit(main())
