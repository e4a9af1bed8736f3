"""The gallery while part of it is re-embedded: what is searched, and how."""
