"""Uploads: received, judged, and accepted whole or not at all."""
