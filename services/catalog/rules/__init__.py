"""What is true of the catalog whatever stores it; nothing here reads or writes."""
