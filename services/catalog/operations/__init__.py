"""What the catalog does: each function is one unit of work of an RPC."""
