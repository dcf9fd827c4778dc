"""Is it exact? An independent reference, and checks of a pair against it."""
