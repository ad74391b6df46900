"""Between the messages of `identity.v1` and the values of this service, a module for each kind."""
