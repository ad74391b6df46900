"""Pure rules of the ledger: what an entry may hold and how it becomes a leaf."""
