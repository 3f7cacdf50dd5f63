"""Illustrated demo avatars: drawn, voiced and trained by code alone."""
