"""What the ledger says about differences between arms."""
