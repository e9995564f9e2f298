"""How the producer tells the sensors what is known of each node: the format, who writes it, who reads it."""
