"""What each command does: one folder or file a verb, and what they share."""
