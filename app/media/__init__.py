"""What is known of video and sound files, for whoever reads or writes them; no source, no sink, no Qt."""
