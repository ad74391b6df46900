"""Races of callers whom one barrier releases, each judged by what the tables and the ledger say."""
