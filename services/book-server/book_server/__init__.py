"""The book service: answers, and the program that serves them in the mesh."""
