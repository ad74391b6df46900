"""Between the messages of `catalog.v1` and the values of this service, a module for each kind."""
