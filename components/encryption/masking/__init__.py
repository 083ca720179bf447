"""What hides a site in a sum: keys of streams, who shares them, how they are lifted for one agreed set."""
