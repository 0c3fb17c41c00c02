"""What needs an NVIDIA GPU: the same jobs as everywhere, on CUDA."""
