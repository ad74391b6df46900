"""What must hold of deployments under any interleaving, judged by what the database has seen."""
