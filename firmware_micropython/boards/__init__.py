"""What is wired where, one module a board, as plain data: the only source of pins."""
