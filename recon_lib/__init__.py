"""Photos of one object in, a validated textured mesh and its quality report out."""

from recon_lib import threads

__version__ = "0.1.0"

threads.settle()  # before the modules below import torch and numba
