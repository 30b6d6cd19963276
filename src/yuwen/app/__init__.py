"""The composition root: the one folder that may import all the others."""
