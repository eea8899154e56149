"""A request, the concepts that an admin enforces, and the plan that both become."""
