"""Region Proposal Network."""
