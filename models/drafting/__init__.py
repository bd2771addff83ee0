"""From the text that a model wrote to a draft: sections, findings, regions, supports, and the answers to tasks."""
