"""`unmask`: lifts the masks of one agreed set of sites, and of sites lost since, by a quorum of the set."""
