"""From a site's warehouse to the rows and features it trains on, without leaving the site."""
