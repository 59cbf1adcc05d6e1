"""One game on the machines of a Ray cluster: workers that come, go and fail, and one answer."""
