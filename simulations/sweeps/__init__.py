"""Many set-ups on the same luck: policies, floors, refreshes and horizons, a row for each."""
