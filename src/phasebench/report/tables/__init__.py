"""The table in the forms that people, papers and programs read."""
