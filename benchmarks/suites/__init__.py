"""One file is one table or figure of the paper; each holds a `SUITE`."""
