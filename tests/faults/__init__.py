"""Services that die, and what is left of their data: each fault on a real one, each ending as it was promised."""
