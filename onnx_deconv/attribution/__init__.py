"""What in an image excited a unit: forward once, seeds back."""
