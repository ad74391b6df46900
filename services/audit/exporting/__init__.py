"""Exports: windows copied by PostgreSQL, and the manifest that binds the file."""
