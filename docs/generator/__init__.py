"""The parts of the manuals that are read from the schema, the contract and the code."""
