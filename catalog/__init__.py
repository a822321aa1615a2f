"""What exists: devices, channels, address codes and the trees over them, kept in PostgreSQL."""
