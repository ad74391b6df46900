"""The audit service: an append-only ledger of every change, and the only way into it."""
