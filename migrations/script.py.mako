"""${message}

Rules:

- Within a major version migrations only add: tables, indexes, columns that are nullable or have a
  server default, columns at the end of `results`. The release before goes on reading and writing
  on this schema, beside this one or after it. So drop and rename nothing; put no NOT NULL, UNIQUE,
  CHECK or foreign key on what is there; and write no value that older releases do not know into a
  column that they read as one of a list.
- A migration that takes something away belongs to a new major version. It sets `oldest_release` in
  `schema_compatibility` to that version, and then older releases refuse the schema.
- Name every constraint and index. Write for SQLite and Postgres. Give `downgrade` what undoes it.
- The revision is the next number, in four digits. Set REVISION in worker/db/schema.py to it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """${message}."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo it."""
    ${downgrades if downgrades else "pass"}
