"""Terms → the loss to minimise, and the schedules of its weights."""
