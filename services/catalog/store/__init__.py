"""The SQL of the catalog: statements in, plain values out, no decisions."""
