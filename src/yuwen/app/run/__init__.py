"""A recipe → a run: what is learnt from, by what, for how long, and the folder that it leaves."""
