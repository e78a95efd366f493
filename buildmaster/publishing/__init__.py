"""Archives of our own: what apt sees of them, made and changed. tree.py, pool.py and signing.py know no database."""
