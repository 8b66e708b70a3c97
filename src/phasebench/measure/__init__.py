"""What is measured about the machine: devices, memory, time, environment."""
