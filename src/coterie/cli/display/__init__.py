"""What a terminal shows while a verb runs: progress, plain letters, what is said with --verbose."""
