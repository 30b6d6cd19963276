"""What a person reads afterwards: one self-contained page about a run, or about several compared."""
