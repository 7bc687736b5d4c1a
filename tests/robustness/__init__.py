"""What kills the program, spoils its files and floods it with classes, at any length."""
