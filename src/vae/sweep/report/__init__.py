"""What a sweep tells: a table, and a page to look at."""
