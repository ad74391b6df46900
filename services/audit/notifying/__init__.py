"""Webhooks: telling other systems what happens, from the ledger and in its order."""
