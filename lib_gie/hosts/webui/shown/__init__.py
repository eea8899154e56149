"""What is shown beside the results, and what becomes of it after the sampling."""
