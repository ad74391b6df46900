"""`python -m services`: the whole product on one machine."""

import sys

from services.one_machine import main

if __name__ == "__main__":
    sys.exit(main())
