"""Converters: offline scripts that write folders of records."""
