"""Who is behind a device."""
