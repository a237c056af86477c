"""What repairs drift from cron: each caretaker looks, plans, mends, under one runner."""
