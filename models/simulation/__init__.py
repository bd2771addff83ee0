"""Simulated chest films with known findings, boxes and report text.

Call :func:`models.simulation.film.render`. The organ maps beside this module were derived from one public CT
(see ``ATTRIBUTION.md``); nothing here needs the CT itself or any training code.
"""
