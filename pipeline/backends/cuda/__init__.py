"""What is only for graphics cards that run CUDA: kernels of our own, and where they take the place of PyTorch's."""
