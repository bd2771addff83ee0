"""A site's knowledge base: files of text, tables and FHIR medication resources, read into passages that can be cited.

Nothing that stands in a file is an order to anybody: it is read, found and quoted.
"""
