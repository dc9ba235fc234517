"""Proves that the e2e tests see what they are for: each mutant has one promise broken, and has to be caught."""
