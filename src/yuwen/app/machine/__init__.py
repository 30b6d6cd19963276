"""What this machine grants, and what of it PyTorch can use."""
