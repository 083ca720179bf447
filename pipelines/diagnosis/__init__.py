"""What would stop a federation's next round, looked for before it runs: no row is read, nothing is billed."""
