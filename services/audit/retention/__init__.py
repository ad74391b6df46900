"""What may leave the ledger: redaction, retirement, legal holds."""
