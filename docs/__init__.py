"""The manuals, and the program that writes the parts of them that can be read from the code."""
