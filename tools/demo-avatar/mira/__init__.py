"""Mira: an illustrated demo avatar, drawn, voiced and trained by code alone."""
