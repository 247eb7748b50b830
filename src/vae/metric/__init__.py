"""The metrics of validation and test."""
