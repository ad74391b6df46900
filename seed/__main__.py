"""`python -m seed`: fill an empty database with the sample data."""

import sys

from seed.seed_data import main

if __name__ == "__main__":
    sys.exit(main())
