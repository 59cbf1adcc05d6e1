"""What several verbs need: requests, prepared and opened models, records."""
