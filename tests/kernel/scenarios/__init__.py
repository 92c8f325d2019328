"""What is asked of the kernel, one file per subject."""
