"""Appending: from what producers send to entries, and what the service records of itself."""
