"""Self-supervised pretraining: schedules, optimizer, teacher, checkpoints and the loop that runs them."""
