"""Metrics as pure functions, and the networks they need."""
