"""The CSV form of the ledger, as far as it is not written by PostgreSQL itself."""

HEADER = b"ID,User ID,Action,Resource Type,Resource ID,Details,IP Address,User Agent,Created At\n"
