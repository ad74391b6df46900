"""The tree: integrated, signed, published and proved; keys and epochs."""
