"""Rows and sentences that terminal and model card both show."""
