"""Pictures carried along the motion of the camera frames, so that the screen keeps up with the camera."""
