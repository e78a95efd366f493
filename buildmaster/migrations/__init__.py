"""How the tables came to be: one module a change, applied in order by :meth:`buildmaster.database.Database.migrate`."""
