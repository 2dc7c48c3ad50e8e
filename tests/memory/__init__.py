"""What Bequest remembers beside an SQLite database is whole, durable, and never a copy's."""
