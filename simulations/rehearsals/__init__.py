"""A rehearsal: the whole experiment by the calendar, user by user, through the engine as the service runs it."""
