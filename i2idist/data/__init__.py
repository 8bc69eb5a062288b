"""Datasets in storage: packing, verifying, reading in a reproducible order, generating."""
