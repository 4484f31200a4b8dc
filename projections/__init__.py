"""What can be asked: one file per view, each a fold of the log into a table and its queries."""
