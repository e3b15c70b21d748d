"""The mathematics of denoising a stream: schedules, solvers, guidance, and the batch of frames in flight."""
