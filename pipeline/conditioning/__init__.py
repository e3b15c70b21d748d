"""What a denoiser is told besides the noisy latent: prompts, and everything that is made of them."""
