"""What several test files need, and no tests."""
