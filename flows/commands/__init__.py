"""What each command of ``firstread`` does; ``flows.cli`` reads its options and calls one of these."""
