"""Verification of what is stored: by everybody who asks, and all the time."""
