"""The tab that trains an adapter on the loaded checkpoint."""
