"""The SQL of the audit service: its append function, its statements, and who its users are."""
