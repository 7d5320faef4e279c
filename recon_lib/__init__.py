"""Photos of one object in, a validated textured mesh and its quality report out."""

__version__ = "0.1.0"
