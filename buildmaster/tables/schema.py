"""What all tables have in common."""

from sqlalchemy import Column, MetaData, String

from buildmaster.tags import LONGEST

# Names for what would have none, so that migrations can speak of them on any database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def tags_column(name: str = "tags") -> "Column[str]":
    """A set of resource tags; see tags.py."""
    return Column(name, String(LONGEST), nullable=False, server_default="")
