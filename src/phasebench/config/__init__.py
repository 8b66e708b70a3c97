"""What can be set: schema, checks, help."""
