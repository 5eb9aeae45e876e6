"""What an experiment needs: sizes as a calendar, in words, and as a document."""
