"""What the service does, one unit of work each: changes take a `Change`, reads a database."""
