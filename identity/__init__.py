"""Who is behind a device: legal ids, claims, the ledger, and the fast shared copy in Redis."""
