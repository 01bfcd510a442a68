"""What every long job of the command line shares: devices, ranks, signals, locks, checkpoints on disk."""
