"""Network blocks that two methods or more share."""
