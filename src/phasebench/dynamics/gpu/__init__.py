"""The exact adjoint on a GPU: Triton kernels and CUDA graphs."""
