"""The verbs: place an order, record what the venue shows, catch up, run the streamer."""
