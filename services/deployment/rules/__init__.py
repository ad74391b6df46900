"""What may happen to deployments and why not: pure functions over facts, without clock or I/O."""
