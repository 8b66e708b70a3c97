"""What people read, made from results.json alone: never imports torch."""
