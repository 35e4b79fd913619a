"""The catalogue in Atlan: what should be there (wanted), what has to change for that (changes), and Atlan itself
(client). Only the last one talks to anybody."""
