"""What a request asks for, what an admin enforces, and the plan that both become."""
