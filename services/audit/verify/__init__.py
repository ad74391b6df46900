"""The offline verifier: exports, entries and checkpoints, held against a public key.

`python -m services.audit.verify` needs files and nothing else: no network, no database, no service.
It takes the code of `services.audit.rules` and `shared.merkle`, so that it computes what the ledger
computes.
"""
