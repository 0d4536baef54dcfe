"""From a suite to stored runs."""
