"""The person and what is behind: a mask of every frame, and the picture put together from styled and real parts."""
