"""bookmesh toolkit."""
