"""What is measured in validation and test."""
