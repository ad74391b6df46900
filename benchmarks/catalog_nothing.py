"""The catalog service and, on the same server, an RPC that does nothing; see `nothing`."""

import sys
from functools import partial

from benchmarks.nothing import and_nothing
from services.catalog.app import catalog_server
from shared.rpc.program import run_service


def main() -> int:
    """Serve until a signal."""
    served = partial(and_nothing, catalog_server)
    return run_service(served, lambda settings: settings.catalog_address)


if __name__ == "__main__":
    sys.exit(main())
