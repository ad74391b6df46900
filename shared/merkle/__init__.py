"""What anybody needs to check the ledger: proofs in its tree, signed notes, checkpoints. Pure."""
