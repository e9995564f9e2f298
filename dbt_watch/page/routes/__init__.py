"""What the page answers: itself, and its data."""
