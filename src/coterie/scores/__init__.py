"""What a model is worth: perplexity, tasks, speed."""
