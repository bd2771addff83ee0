"""Network definitions owned by this project, in plain torch."""
