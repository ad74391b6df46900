"""Reading: pages, single entries and streams of what is appended."""
