"""History in a PostgreSQL that several boxes may share. The only package that sees ``asyncpg``."""
