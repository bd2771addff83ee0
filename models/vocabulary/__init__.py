"""The words of the findings in English and Chinese: what firstread-mini writes and the readers know."""
