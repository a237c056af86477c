"""Whether an order may be sent: pure, before every order, with a code and the numbers."""
