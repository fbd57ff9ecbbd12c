"""Decides: which worker serves which request, how many there are, and when all of it ends."""
