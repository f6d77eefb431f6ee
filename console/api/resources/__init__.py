"""One module for each noun of the REST door."""
