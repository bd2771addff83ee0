"""What a run holds open and knows of its surroundings: settings, store, archives, drafter, folders, Prefect."""
