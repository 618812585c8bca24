"""Image generation: from noise (GANs), and from other images (image-to-image translation)."""
