"""Deploys releases by rules that hold whatever happens at once, and tells what runs where."""
