"""Compares runs by the files that they left: a table, a picture and a page; and one page for a single run."""
