"""`release`: lifts the self-masks of one agreed set of sites, at each of them."""
