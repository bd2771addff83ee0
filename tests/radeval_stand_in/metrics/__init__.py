"""As the package's."""
