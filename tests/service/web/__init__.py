"""The page and the API: a real server on a real warehouse, asked by a real client and a real browser."""
