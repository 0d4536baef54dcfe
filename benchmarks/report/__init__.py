"""From stored runs to what people look at."""
